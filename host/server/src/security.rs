//! Access control: TLS, passwords and the request rate, from the current web config.
//!
//! The web config and the files it names are checked for each connection and each request, off the server's thread, and
//! one check at a time. A check that finds no change costs reading them; one that takes too long, on a disk that does
//! not respond, is not waited for. A file with a mistake changes nothing and is logged once. The same applies if it has
//! lost the key of an active protection, for example while it is being saved: only an explicit `{}` disables one.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use conductor_config::{
    ConfigError, ErrorSummary,
    web::{WebConfig, WebConfigInputs, WebReadResult},
};
use exposure::exposure;
use passwords::{PasswordChecker, PasswordVerdict};
use rate::TokenBucket;
use tokio::sync::{Semaphore, watch};

mod exposure;
mod passwords;
mod rate;

/// The access rules. The default gives every client access, over plain HTTP.
#[derive(Clone, Default)]
pub struct ServerSecurity {
    shared: Option<Arc<SharedSecurity>>,
}

struct SharedSecurity {
    file: PathBuf,
    /// The config in effect.
    current: Mutex<Arc<WebConfig>>,
    /// Signalled after each reload, with the errors of a file that is not in force.
    changes: watch::Sender<Option<ErrorSummary>>,
    /// The inputs of the current config, or those of the newest attempt that failed.
    inputs: Mutex<WebConfigInputs>,
    /// Allows one check at a time.
    turns: Arc<Semaphore>,
    /// The number of checks started.
    looks: AtomicU64,
    /// The listening address and whether clients may change something, once known.
    place: OnceLock<(SocketAddr, bool)>,
    passwords: PasswordChecker,
    bucket: Mutex<TokenBucket>,
}

impl ServerSecurity {
    /// Reads the web config at `path` and follows its changes.
    ///
    /// # Errors
    /// For every mistake in it, and in the files that it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let WebReadResult { inputs, outcome } = WebConfig::read(path);
        let config = outcome?;
        remark(&config);
        let shared = SharedSecurity {
            file: path.to_owned(),
            current: Mutex::new(Arc::new(config)),
            changes: watch::Sender::new(None),
            inputs: Mutex::new(inputs),
            turns: Arc::new(Semaphore::new(1)),
            looks: AtomicU64::new(0),
            place: OnceLock::new(),
            passwords: PasswordChecker::default(),
            bucket: Mutex::default(),
        };
        Ok(Self {
            shared: Some(Arc::new(shared)),
        })
    }

    /// Returns the URL scheme of the server: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.now().tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Returns the settings that the host's own clients depend on: its scheme, and whether it is open to all.
    pub fn access(&self) -> (&'static str, bool) {
        (self.scheme(), self.lets_everybody_in())
    }

    /// Returns a receiver that is notified of each later version of the web config file, with its errors if it did not
    /// come into force; `None` without a web config file.
    pub fn changes(&self) -> Option<watch::Receiver<Option<ErrorSummary>>> {
        let shared = self.shared.as_ref()?;
        Some(shared.changes.subscribe())
    }

    /// Returns the files that a plugin must not read: the web config, and the key that it names.
    #[must_use]
    pub fn private_files(&self) -> Vec<PathBuf> {
        self.now().private_files.clone()
    }

    /// Returns `true` if every client has access over plain HTTP without a password.
    #[must_use]
    pub fn lets_everybody_in(&self) -> bool {
        let config = self.now();
        config.tls.is_none() && !config.asks_who()
    }

    /// Logs a warning if the server at `address` is too open, now and whenever a changed web config has that effect;
    /// `controls` means that clients may change something.
    pub fn warn_of_exposure(&self, address: SocketAddr, controls: bool) {
        if let Some(shared) = &self.shared {
            let _ = shared.place.set((address, controls));
        }
        if let Some(exposure) = exposure(&self.now(), address, controls) {
            tracing::warn!("{exposure}");
        }
    }

    /// Returns the config in effect, after a check of the files.
    pub(super) async fn current(&self) -> Arc<WebConfig> {
        if let Some(shared) = &self.shared {
            let _ = tokio::time::timeout(LONGEST_LOOK, look(shared)).await;
        }
        self.now()
    }

    /// Admits a request and returns the user it is authenticated as, if a password is required; or the response that
    /// refuses it. A request that has a token in place of a password (`has_token`), which its route checks, needs none.
    pub(super) async fn admit<B>(
        &self,
        config: &WebConfig,
        request: &Request<B>,
        has_token: bool,
        patience: Duration,
    ) -> Result<Option<Arc<str>>, Box<Response>> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        if !lock(&shared.bucket).takes(config.rate_limit) {
            let text = "Too many requests: the limit is rate_limit in the web config.\n";
            return refuse(StatusCode::TOO_MANY_REQUESTS, text);
        }
        if config.users.is_empty() || has_token {
            return Ok(None);
        }
        let Some((name, password)) = credentials(request.headers()) else {
            return unauthorized();
        };
        let user = Arc::from(name.as_str());
        match shared
            .passwords
            .check(&config.users, name, password, patience)
            .await
        {
            PasswordVerdict::Right => Ok(Some(user)),
            PasswordVerdict::Wrong => unauthorized(),
            PasswordVerdict::Unknown => {
                let text = "Too many logins at once: try again later.\n";
                refuse(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        }
    }

    /// Resolves once the web config differs from the one that admitted a stream: its user may have been removed.
    pub(super) async fn outdates(&self, admitted: &mut watch::Receiver<Option<Arc<WebConfig>>>) {
        if self.shared.is_none() || admitted.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
        loop {
            tokio::time::sleep(LOOKS_FOR_STREAMS).await;
            let now = self.current().await;
            let by = admitted.borrow();
            if by.as_ref().is_some_and(|by| !Arc::ptr_eq(by, &now)) {
                return;
            }
        }
    }

    fn now(&self) -> Arc<WebConfig> {
        match &self.shared {
            Some(shared) => Arc::clone(&lock(&shared.current)),
            None => Arc::default(),
        }
    }
}

/// Adds the headers that the operator has configured for all responses, replacing the server's own.
pub(super) fn add_headers(config: &WebConfig, response: &mut Response) {
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
}

/// Returns once a check of the files that began after this call has ended.
async fn look(shared: &Arc<SharedSecurity>) {
    let begun = shared.looks.load(Ordering::SeqCst);
    let Ok(turn) = Arc::clone(&shared.turns).acquire_owned().await else {
        return;
    };
    if shared.looks.load(Ordering::SeqCst) > begun {
        return;
    }
    let shared = Arc::clone(shared);
    let looking = tokio::task::spawn_blocking(move || {
        // Owned by the check, not by its waiters: one that hangs keeps all others away.
        let _turn = turn;
        shared.looks.fetch_add(1, Ordering::SeqCst);
        shared.look();
    });
    let _ = looking.await;
}

impl SharedSecurity {
    fn look(&self) {
        let mut inputs = lock(&self.inputs);
        if inputs.are_unchanged() {
            return;
        }
        let reading = WebConfig::read(&self.file);
        *inputs = reading.inputs;
        match reading.outcome {
            Ok(config) if config.says_nothing => self.doubt(format!(
                "{} is empty, as if it were being written: write `{{}}` into it if neither TLS nor passwords are wanted",
                self.file.display()
            )),
            Ok(config) => self.consider(config),
            Err(error) => {
                tracing::error!(
                    "web config not reloaded, the old one stays in force:\n{}",
                    error.to_plain()
                );
                self.changes.send_replace(Some(error.summary()));
            }
        }
    }

    /// Keeps the old config because the file looks half-written.
    fn doubt(&self, why: String) {
        tracing::warn!("web config not reloaded, the old one stays in force: {why}");
        self.changes.send_replace(Some(why.into()));
    }

    /// Applies a config, unless it has lost a protection that it does not disable explicitly.
    fn consider(&self, config: WebConfig) {
        let lacking = config.lacks(&lock(&self.current));
        match lacking {
            Some((key, line)) => self.doubt(format!(
                "{} no longer has `{key}`, as if it were half-written: write `{line}` into it, or `{{}}` alone, to do without",
                self.file.display()
            )),
            None => self.follow(config),
        }
    }

    /// Applies this config, and logs what it exposes.
    fn follow(&self, config: WebConfig) {
        let old = Arc::clone(&lock(&self.current));
        tracing::info!("web config reloaded");
        remark(&config);
        if old.asks_who() && !config.asks_who() {
            tracing::warn!(
                "{} no longer requires a password or a certificate",
                self.file.display()
            );
        }
        if let Some((address, controls)) = self.place.get() {
            let told = exposure(&old, *address, *controls);
            match exposure(&config, *address, *controls) {
                Some(exposure) if told.as_ref() != Some(&exposure) => tracing::warn!("{exposure}"),
                _ => {}
            }
        }
        *lock(&self.current) = Arc::new(config);
        self.changes.send_replace(None);
    }
}

fn remark(config: &WebConfig) {
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
}

/// Returns the name and password of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn unauthorized<T>() -> Result<T, Box<Response>> {
    let text = "Unauthorized: the host requires a user name and a password.\n";
    let mut response = (StatusCode::UNAUTHORIZED, text).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, CHALLENGE);
    Err(Box::new(response))
}

fn refuse<T>(status: StatusCode, text: &'static str) -> Result<T, Box<Response>> {
    let mut response = (status, text).into_response();
    let soon = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, soon);
    Err(Box::new(response))
}

/// The response to a client that speaks HTTP on a TLS port; the connection is then closed.
pub(super) const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nThis host speaks TLS: use https.\n";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"Conductor\", charset=\"UTF-8\"");

/// The interval at which streams are checked against the current config.
const LOOKS_FOR_STREAMS: Duration = Duration::from_secs(2);

/// The maximum time to wait for a disk.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_that_opens_the_door_is_warned_of_and_an_empty_one_opens_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.yml");
        let asking = format!("basic_auth_users:\n  a: $2b$04${NOBODYS}\n");
        std::fs::write(&file, asking).unwrap();
        let security = ServerSecurity::read(&file).unwrap();
        let shared = security.shared.as_ref().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let said = || String::from_utf8(std::mem::take(&mut *lock(&log))).unwrap();
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Log(Arc::clone(&writer)))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            security.warn_of_exposure("0.0.0.0:9750".parse().unwrap(), false);
            assert!(said().contains("in the clear"));
            std::fs::write(&file, "").unwrap();
            shared.look();
            let empty = said();
            assert!(
                empty.contains("web.yml is empty") && empty.contains("`{}`"),
                "{empty}"
            );
            shared.look();
            assert_eq!(said(), "", "it is told once");
            assert!(security.now().asks_who());
            for half in ["rate_limit: {}\n", "http_server_config:\n  http2: false\n"] {
                std::fs::write(&file, half).unwrap();
                shared.look();
                let kept = said();
                assert!(
                    kept.contains("no longer has `basic_auth_users`")
                        && kept.contains("the old one stays in force"),
                    "{kept}"
                );
                assert!(security.now().asks_who());
            }
            std::fs::write(&file, "basic_auth_users:\n").unwrap();
            shared.look();
            assert!(said().contains("has no value") && security.now().asks_who());
            std::fs::write(&file, "rate_limit: {}\nbasic_auth_users: {}\n").unwrap();
            shared.look();
            let open = said();
            assert!(open.contains("no longer requires a password"), "{open}");
            assert!(
                open.contains("WARN") && open.contains("anyone can read"),
                "{open}"
            );
            assert!(!security.now().asks_who());
            std::fs::write(&file, "rate_limit: { }\n").unwrap();
            shared.look();
            assert!(!said().contains("WARN"), "nothing new");
            assert!(!security.now().asks_who());
        });
    }

    const NOBODYS: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
