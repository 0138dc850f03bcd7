//! Password checks. bcrypt takes a tenth of a second or more of CPU: it runs on a separate thread with the lowest
//! priority, one check at a time, and only for passwords not checked before.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use bcrypt::HashParts;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

/// The result of a password check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordVerdict {
    Right,
    Wrong,
    /// Too many checks are waiting.
    Unknown,
}

/// Checks passwords and caches the results.
#[derive(Default)]
pub(super) struct PasswordChecker {
    known: Mutex<PasswordCache>,
    jobs: OnceLock<Option<SyncSender<PasswordJob>>>,
}

impl PasswordChecker {
    /// Checks a password against the hashes of `users`; waits `patience` for its turn.
    ///
    /// An unknown name takes as long as a user with a wrong password.
    pub(super) async fn check(
        &self,
        users: &BTreeMap<String, String>,
        name: String,
        password: String,
        patience: Duration,
    ) -> PasswordVerdict {
        let user = users.get(&name);
        let hash = user.cloned().unwrap_or_else(|| nobodys_hash(users));
        let key = self.known().key(&name, &hash, &password);
        if let Some(right) = self.known().get(&key) {
            return verdict(right);
        }
        let (answer, answered) = oneshot::channel();
        let job = PasswordJob {
            password,
            hash,
            answer,
        };
        let jobs = self.jobs.get_or_init(start);
        if jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            return PasswordVerdict::Unknown;
        }
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(fits)) => {
                let right = fits && user.is_some();
                self.known().put(key, right);
                verdict(right)
            }
            _ => PasswordVerdict::Unknown,
        }
    }

    fn known(&self) -> MutexGuard<'_, PasswordCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verdict(right: bool) -> PasswordVerdict {
    if right {
        PasswordVerdict::Right
    } else {
        PasswordVerdict::Wrong
    }
}

/// A password to check against a hash.
struct PasswordJob {
    password: String,
    hash: String,
    answer: oneshot::Sender<bool>,
}

/// Starts the thread. It ends when its senders do; without it only cached passwords are accepted.
fn start() -> Option<SyncSender<PasswordJob>> {
    let (sender, jobs) = sync_channel(LONGEST_QUEUE);
    let thread = thread::Builder::new().name("passwords".to_owned());
    match thread.spawn(move || work(&jobs)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(
                "cannot start a thread to check passwords, so no login succeeds: {error}"
            );
            None
        }
    }
}

fn work(jobs: &Receiver<PasswordJob>) {
    // On Linux this applies to the thread only. A flood of wrong passwords must not take CPU from the checks.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(LAST_IN_LINE);
    for job in jobs {
        // The client may have disconnected.
        if job.answer.is_closed() {
            continue;
        }
        let fits = bcrypt::verify(&job.password, &job.hash).unwrap_or(false);
        let _ = job.answer.send(fits);
    }
}

/// Returns a hash with the users' highest cost, which matches no password that is ever sent.
fn nobodys_hash(users: &BTreeMap<String, String>) -> String {
    let costs = users.values().filter_map(|hash| hash.parse().ok());
    let most = costs.map(|parts: HashParts| parts.get_cost()).max();
    format!("$2b${:02}${NOBODY}", most.unwrap_or(10))
}

/// The results, by digests that cannot be computed without the salt.
struct PasswordCache {
    salt: [u8; 32],
    /// Separate, so that wrong passwords, of which there is no end, never evict a right one.
    right: RecentKeys,
    wrong: RecentKeys,
}

type Key = [u8; 32];

/// The most recent keys.
#[derive(Default)]
struct RecentKeys(VecDeque<Key>);

impl Default for PasswordCache {
    fn default() -> Self {
        Self {
            salt: salt(),
            right: RecentKeys::default(),
            wrong: RecentKeys::default(),
        }
    }
}

impl PasswordCache {
    /// Returns the key. The hash is part of it: a changed password is checked again.
    fn key(&self, name: &str, hash: &str, password: &str) -> Key {
        let mut digest = Sha256::new_with_prefix(self.salt);
        for part in [name, hash, password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn get(&self, key: &Key) -> Option<bool> {
        if self.right.0.contains(key) {
            return Some(true);
        }
        self.wrong.0.contains(key).then_some(false)
    }

    fn put(&mut self, key: Key, right: bool) {
        let recent = if right {
            &mut self.right
        } else {
            &mut self.wrong
        };
        if recent.0.contains(&key) {
            return;
        }
        if recent.0.len() == MOST_KNOWN {
            recent.0.pop_front();
        }
        recent.0.push_back(key);
    }
}

/// Returns a random salt, from the keys that the standard library draws for each of its hash maps.
fn salt() -> [u8; 32] {
    use std::hash::{BuildHasher as _, RandomState};
    let mut digest = Sha256::new();
    for round in 0..4_u8 {
        digest.update(RandomState::new().hash_one(round).to_le_bytes());
    }
    digest.finalize().into()
}

/// The maximum number of waiting checks; further requests are refused and must retry.
const LONGEST_QUEUE: usize = 64;

/// The capacity for right ones, and for wrong ones.
const MOST_KNOWN: usize = 128;

#[cfg(target_os = "linux")]
const LAST_IN_LINE: i32 = 19;

/// Salt and digest of a hash, as in exporter-toolkit for the same purpose.
const NOBODY: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> BTreeMap<String, String> {
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        [("alice", "wonder"), ("bob", "builder")]
            .map(|(name, password)| (name.to_owned(), hash(password)))
            .into()
    }

    fn ask(
        passwords: &PasswordChecker,
        users: &BTreeMap<String, String>,
        who: (&str, &str),
    ) -> PasswordVerdict {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let patience = Duration::from_secs(60);
        runtime.block_on(passwords.check(users, who.0.to_owned(), who.1.to_owned(), patience))
    }

    #[test]
    fn only_a_users_own_password_is_right_the_second_time_too() {
        let (passwords, users) = (PasswordChecker::default(), users());
        for _ in 0..2 {
            assert_eq!(
                ask(&passwords, &users, ("alice", "wonder")),
                PasswordVerdict::Right
            );
            for wrong in [
                ("alice", "builder"),
                ("alice", ""),
                ("bob", "wonder"),
                ("nobody", "wonder"),
                ("", ""),
                ("alicew", "onder"),
            ] {
                assert_eq!(
                    ask(&passwords, &users, wrong),
                    PasswordVerdict::Wrong,
                    "{wrong:?}"
                );
            }
        }
    }

    #[test]
    fn a_password_that_was_changed_is_not_remembered() {
        let (passwords, mut users) = (PasswordChecker::default(), users());
        assert_eq!(
            ask(&passwords, &users, ("alice", "wonder")),
            PasswordVerdict::Right
        );
        users.insert("alice".to_owned(), bcrypt::hash("other", 4).unwrap());
        assert_eq!(
            ask(&passwords, &users, ("alice", "wonder")),
            PasswordVerdict::Wrong
        );
        assert_eq!(
            ask(&passwords, &users, ("alice", "other")),
            PasswordVerdict::Right
        );
        users.remove("alice");
        assert_eq!(
            ask(&passwords, &users, ("alice", "other")),
            PasswordVerdict::Wrong
        );
    }

    #[test]
    fn wrong_passwords_never_push_out_a_right_one() {
        let mut known = PasswordCache::default();
        let right = known.key("alice", "hash", "wonder");
        known.put(right, true);
        for wrong in 0..1000 {
            let key = known.key("alice", "hash", &wrong.to_string());
            known.put(key, false);
        }
        assert_eq!(known.get(&right), Some(true));
        assert_eq!(known.wrong.0.len(), MOST_KNOWN);
    }

    #[test]
    fn somebody_unknown_takes_the_time_of_the_costliest_hash() {
        let mut users = users();
        users.insert("carol".to_owned(), bcrypt::hash("x", 6).unwrap());
        let parts: HashParts = nobodys_hash(&users).parse().unwrap();
        assert_eq!(parts.get_cost(), 6);
    }
}
