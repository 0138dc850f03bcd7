//! Surveys files within the time of a check, even if their file system never responds.
//!
//! A call on a dead mount, such as an NFS mount whose server is gone, cannot be cancelled. The surveyor makes all calls on a
//! helper thread, and abandons that thread when it does not end in time. An abandoned thread ends when its call returns;
//! until then no other one is started.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
};

use conductor_net::TimeLimit;

use crate::survey::{FileSurvey, SurveyError, SurveyPlan, TimeUp, survey};

/// Makes surveys of one plan, and remembers one that did not return.
pub(crate) struct FileSurveyor {
    plan: Arc<SurveyPlan>,
    survey: Survey,
    stuck: Option<Receiver<SurveyResult>>,
}

type SurveyResult = Result<FileSurvey, SurveyError>;
type Survey = fn(&SurveyPlan, &TimeUp) -> SurveyResult;

/// The reason why there is no survey.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyorError {
    /// The file system does not respond.
    #[error("no answer from the file system: its server or device may be gone")]
    Silent,
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl FileSurveyor {
    pub(crate) fn new(plan: SurveyPlan) -> Self {
        Self::with(plan, survey)
    }

    pub(crate) fn with(plan: SurveyPlan, survey: Survey) -> Self {
        Self {
            plan: Arc::new(plan),
            survey,
            stuck: None,
        }
    }

    pub(crate) fn plan(&self) -> &SurveyPlan {
        &self.plan
    }

    /// Surveys the files once, within the limit.
    pub(crate) fn survey(&mut self, limit: &TimeLimit<'_>) -> Result<FileSurvey, SurveyorError> {
        if let Some(stuck) = self.stuck.take()
            && matches!(stuck.try_recv(), Err(TryRecvError::Empty))
        {
            self.stuck = Some(stuck);
            return Err(SurveyorError::Silent);
        }
        let (done, result) = mpsc::channel();
        let time = Arc::new(TimeUp::default());
        let (plan, survey, thread_time) = (Arc::clone(&self.plan), self.survey, Arc::clone(&time));
        let thread = thread::Builder::new().spawn(move || {
            // Fails if the thread was abandoned.
            let _ = done.send(survey(&plan, &thread_time));
        })?;
        // A survey that is only slow ends soon after its time is up.
        let reserved = limit.left() / RESERVED;
        let found = match result.recv_timeout(limit.left().saturating_sub(reserved)) {
            Err(RecvTimeoutError::Timeout) => {
                time.set();
                result.recv_timeout(limit.left())
            }
            found => found,
        };
        match found {
            Ok(found) => {
                let _ = thread.join();
                Ok(found?)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck = Some(result);
                Err(SurveyorError::Silent)
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Ok(()) => Err(SurveyorError::Silent),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// Part of the time in which a slow survey can end.
const RESERVED: u32 = 5;
