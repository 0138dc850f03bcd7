//! Examines file systems within the time of a check, even if one of them never responds.
//!
//! A call on a dead mount, such as an NFS mount whose server is gone, cannot be cancelled. The examiner makes all calls
//! on a helper thread, abandons that thread when a mount does not respond, and continues with another. An abandoned
//! thread ends when its call returns; until then its mount is not queried again.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    examination::{PathExamination, examine},
    mounts::MountTable,
};

/// Examines paths, and remembers those that did not respond.
pub(crate) struct PathExaminer {
    examine: Examine,
    /// Paths with a pending call, each with the thread's channel.
    stuck: BTreeMap<PathBuf, Receiver<PathExamination>>,
}

type Examine = fn(&Path, &MountTable) -> PathExamination;

impl Default for PathExaminer {
    fn default() -> Self {
        Self::with(examine)
    }
}

impl PathExaminer {
    pub(crate) fn with(examine: Examine) -> Self {
        Self {
            examine,
            stuck: BTreeMap::new(),
        }
    }

    /// Examines the paths in their order; the result is `None` for one that does not respond.
    ///
    /// `remaining` returns the time to the check's deadline. A path gets a quarter of it at first, so that some is left
    /// for the others, and the rest once those were examined. A path that did not respond at an earlier check gets
    /// none.
    pub(crate) fn examine(
        &mut self,
        paths: &[PathBuf],
        table: &Arc<MountTable>,
        remaining: &dyn Fn() -> Duration,
    ) -> Vec<Option<PathExamination>> {
        let margin = (remaining() / 10).min(MAX_MARGIN);
        let left = || remaining().saturating_sub(margin);
        self.stuck
            .retain(|_, answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
        let (mut found, mut late) = (Vec::new(), Vec::new());
        let mut idle: Option<ExaminerThread> = None;
        for (nth, path) in paths.iter().enumerate() {
            if self.stuck.contains_key(path) {
                found.push(None);
                continue;
            }
            let helper = idle.take().map_or_else(|| self.helper(table), Ok);
            let Ok(helper) = helper else {
                // The process cannot start another thread.
                found.push(Some((self.examine)(path, table)));
                continue;
            };
            let answer = helper.ask(path, (left() / 4).max(MIN_PATIENCE));
            if answer.is_some() {
                idle = Some(helper);
            } else {
                late.push((nth, path, helper.answers));
            }
            found.push(answer);
        }
        if let Some(helper) = idle {
            helper.end();
        }
        for (nth, path, answers) in late {
            found[nth] = answers.recv_timeout(left()).ok();
            if found[nth].is_none() {
                self.stuck.insert(path.clone(), answers);
            }
        }
        found
    }

    fn helper(&self, table: &Arc<MountTable>) -> io::Result<ExaminerThread> {
        let (jobs, to_do) = mpsc::channel::<PathBuf>();
        let (done, answers) = mpsc::channel();
        let (examine, table) = (self.examine, Arc::clone(table));
        let thread = thread::Builder::new().spawn(move || {
            for path in to_do {
                if done.send(examine(&path, &table)).is_err() {
                    return;
                }
            }
        })?;
        Ok(ExaminerThread {
            jobs,
            answers,
            thread,
        })
    }
}

/// A thread that examines one path at a time, and ends when its `jobs` are dropped.
struct ExaminerThread {
    jobs: Sender<PathBuf>,
    answers: Receiver<PathExamination>,
    thread: JoinHandle<()>,
}

impl ExaminerThread {
    fn ask(&self, path: &Path, patience: Duration) -> Option<PathExamination> {
        self.jobs.send(path.to_owned()).ok()?;
        self.answers.recv_timeout(patience).ok()
    }

    /// Ends the idle thread.
    fn end(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

/// Time reserved for the report.
const MAX_MARGIN: Duration = Duration::from_millis(100);
/// For a path after many that did not respond.
const MIN_PATIENCE: Duration = Duration::from_millis(10);
