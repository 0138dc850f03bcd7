//! The way to a session: connection, TLS and login.

use std::io;

use conductor_net::{
    ByteStream, CheckError, NameResolver, PhaseClock, SocketTarget, StartTls, TlsClient,
};
use conductor_plugin_api::config::Secret;
use tokio_postgres::{Config, Error, config::SslMode};

use crate::frames::FrameError;

/// The server, and the role to log in as.
pub(crate) struct Login {
    pub(crate) target: SocketTarget,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: String,
}

impl Login {
    /// Connects and, if it is configured, starts TLS: the phases `resolve`, `connect`, `starttls` and `tls`.
    pub(crate) async fn connect(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<Box<dyn ByteStream>, CheckError> {
        let stream = self.reach(resolver, clock).await?;
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        let host = self.target.host();
        let mut handshake = tls.connect(stream, host, &clock.limit).await;
        if handshake.is_refused {
            let again = self.reach(resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, host, &clock.limit)
                .await;
        }
        *expiry = handshake.presented.and_then(|chain| chain.expiry());
        let stream = handshake.outcome?;
        clock.end();
        Ok(Box::new(stream))
    }

    /// Connects, up to where TLS begins if it is configured.
    async fn reach(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Box<dyn ByteStream>, CheckError> {
        let mut stream = self.target.connect(resolver, clock).await?;
        if self.tls.is_some() {
            clock.enter("starttls");
            let started = StartTls::Postgres.start(&mut stream, self.target.host(), &clock.limit);
            started.await?;
            clock.enter("tls");
        }
        Ok(stream)
    }

    /// Returns the parameters of the session, for a stream that is ready for it.
    pub(crate) fn session(&self) -> Config {
        let mut config = Config::new();
        // An empty password is refused by the server, with a better reason than the library's.
        let password = self.password.as_ref().map_or("", Secret::expose);
        config
            .user(&self.user)
            .password(password)
            .dbname(&self.database)
            .application_name("conductor")
            .ssl_mode(SslMode::Disable);
        config
    }
}

/// Judges an error of the session; `what` was attempted, as in "cannot log in".
pub(crate) fn judge(what: &str, error: Error) -> CheckError {
    if let Some(error) = error.as_db_error() {
        return CheckError::Platform(format!(
            "{what}: {} ({})",
            error.message(),
            error.code().code()
        ));
    }
    if error.is_closed() {
        return CheckError::Platform(format!("{what}: the server closed the connection"));
    }
    let shown = error.to_string();
    let Some(source) = error.into_source() else {
        return CheckError::Platform(format!("{what}: {shown}"));
    };
    match source.downcast::<io::Error>() {
        Ok(error) => judge_io(what, &error),
        Err(source) => CheckError::Platform(format!("{what}: {shown}: {source}")),
    }
}

fn judge_io(what: &str, error: &io::Error) -> CheckError {
    let inner = error.get_ref();
    if let Some(rule) = inner.and_then(|inner| inner.downcast_ref::<FrameError>()) {
        return CheckError::Platform(rule.to_string());
    }
    if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::UnexpectedEof {
        return CheckError::of(what, error);
    }
    // From the library or from TLS.
    CheckError::Platform(format!(
        "{what}: the server breaks the protocol of PostgreSQL ({error})"
    ))
}
