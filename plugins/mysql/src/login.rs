//! The way to a session: connection, greeting, TLS and authentication.

use conductor_net::{ByteStream, CheckError, NameResolver, PhaseClock, SocketTarget, TlsClient};
use conductor_plugin_api::config::Secret;
use mysql_common::{
    auth::plugins::{AuthProc, ChallengeResponsePlugin as _, Context, Response},
    constants::CapabilityFlags,
    io::ParseBuf,
    packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest},
    proto::MySerialize,
};

use crate::{
    packets::{PacketError, PacketStream},
    session::{Session, within},
};

/// The server, and the account to log in with.
pub(crate) struct Login {
    pub(crate) target: SocketTarget,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<String>,
}

impl Login {
    /// Opens a session: the phases `resolve`, `connect`, `greeting`, `tls` and `login`.
    pub(crate) async fn open(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<Session, CheckError> {
        let (mut packets, greeting) = self.greet(resolver, clock).await?;
        if let Some(tls) = &self.tls {
            let (stream, number) = packets.into_stream();
            let host = self.target.host();
            let mut handshake = tls.connect(stream, host, &clock.limit).await;
            if handshake.is_refused {
                let again = self.greet(resolver, clock).await;
                let again = again.map(|(packets, _)| packets.into_stream().0);
                handshake = tls
                    .offer_outdated(handshake, again, host, &clock.limit)
                    .await;
            }
            *expiry = handshake.presented.and_then(|chain| chain.expiry());
            let stream: Box<dyn ByteStream> = Box::new(handshake.outcome?);
            packets = PacketStream::resume(stream, number);
        }
        clock.enter("login");
        let login = self.authenticate(&mut packets, &greeting);
        within(clock, "the login", "cannot log in", login).await?;
        clock.end();
        Ok(Session {
            packets,
            capabilities: greeting.capabilities(self.tls.is_some()),
            version: greeting.version,
        })
    }

    /// Connects and reads the greeting, up to where TLS begins if it is configured.
    async fn greet(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<(PacketStream, Greeting), CheckError> {
        let stream = self.target.connect(resolver, clock).await?;
        let mut packets = PacketStream::new(stream);
        clock.enter("greeting");
        let greeting = within(clock, "the greeting", REFUSED, Greeting::read(&mut packets)).await?;
        if self.tls.is_some() {
            clock.enter("tls");
            let asking = greeting.start_tls(&mut packets);
            within(clock, "TLS to be started", "cannot start TLS", asking).await?;
        }
        Ok((packets, greeting))
    }

    async fn authenticate(
        &self,
        packets: &mut PacketStream,
        greeting: &Greeting,
    ) -> Result<(), PacketError> {
        let capabilities = greeting.capabilities(self.tls.is_some());
        let mut method = Authentication::begin(self, &greeting.method, &greeting.nonce)?;
        let first = method.respond(&greeting.nonce)?;
        let response = HandshakeResponse::new(
            first,
            (8, 0, 0),
            Some(self.user.as_bytes()),
            self.database.as_ref().map(|name| name.as_bytes()),
            Some(AuthPlugin::from_bytes(&greeting.method)),
            capabilities,
            None,
            MAX_PACKET,
        );
        packets.send(&serialized(&response)).await?;
        // A server switches the method once, and asks a few times.
        for _ in 0..MAX_CHALLENGES {
            let payload = packets.read(capabilities).await?;
            let response = match payload.split_first() {
                Some((0, _)) => return Ok(()),
                Some((&MORE_DATA, challenge)) => method.respond(challenge)?,
                Some((&SWITCH_METHOD, rest)) if !rest.is_empty() => {
                    let request: AuthSwitchRequest<'_> = ParseBuf(&payload).parse(())?;
                    let name = request.auth_plugin().as_bytes().to_owned();
                    method = Authentication::begin(self, &name, request.plugin_data())?;
                    method.respond(request.plugin_data())?
                }
                _ => return Err(PacketError::Unexpected("not of a login".to_owned())),
            };
            if let Some(response) = response {
                packets.send(&response).await?;
            }
        }
        Err(PacketError::Unexpected("another challenge".to_owned()))
    }
}

/// The first packet of a server.
struct Greeting {
    version: String,
    capabilities: CapabilityFlags,
    /// Name of the method by which the server wants to authenticate.
    method: Vec<u8>,
    nonce: Vec<u8>,
}

impl Greeting {
    async fn read(packets: &mut PacketStream) -> Result<Self, PacketError> {
        let payload = packets.read(CapabilityFlags::empty()).await?;
        let parsed = ParseBuf(&payload).parse::<HandshakePacket<'_>>(());
        let found = match parsed {
            Ok(found) if found.protocol_version() == PROTOCOL => found,
            _ => {
                let start = &payload[..payload.len().min(MAX_SHOWN)];
                let text = String::from_utf8_lossy(start).into_owned();
                return Err(PacketError::Protocol(text));
            }
        };
        if !found.capabilities().contains(REQUIRED) {
            return Err(PacketError::Unexpected(
                "a greeting of MySQL 4 or older; the probe requires 5.5".to_owned(),
            ));
        }
        // The server asks for another method when it knows the account.
        let method = match found.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        Ok(Self {
            version: found.server_version_str().into_owned(),
            capabilities: found.capabilities(),
            method: method.as_bytes().to_owned(),
            nonce: found.nonce(),
        })
    }

    fn capabilities(&self, is_encrypted: bool) -> CapabilityFlags {
        let wanted =
            REQUIRED | CapabilityFlags::CLIENT_LONG_PASSWORD | CapabilityFlags::CLIENT_TRANSACTIONS;
        let tls = match is_encrypted {
            true => CapabilityFlags::CLIENT_SSL,
            false => CapabilityFlags::empty(),
        };
        (wanted & self.capabilities) | tls
    }

    async fn start_tls(&self, packets: &mut PacketStream) -> Result<(), PacketError> {
        if !self.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(PacketError::NoTls);
        }
        let request = SslRequest::new(self.capabilities(true), MAX_PACKET, UTF8MB4);
        packets.send(&serialized(&request)).await
    }
}

/// An authentication by one method.
struct Authentication<'a> {
    method: AuthProc,
    name: Vec<u8>,
    password: &'a str,
    nonce: Vec<u8>,
    is_tls: bool,
    is_local: bool,
}

impl<'a> Authentication<'a> {
    fn begin(login: &'a Login, name: &[u8], nonce: &[u8]) -> Result<Self, PacketError> {
        let plugin = match AuthPlugin::from_bytes(name) {
            // The server asks the system who connects to a Unix socket.
            AuthPlugin::Other(_) if SOCKET_METHODS.contains(&name) => {
                AuthPlugin::MysqlClearPassword
            }
            AuthPlugin::Ed25519 | AuthPlugin::Parsec | AuthPlugin::MysqlOldPassword => {
                return Err(unsupported(name));
            }
            plugin => plugin,
        };
        let method = plugin.init().map_err(|_| unsupported(name))?;
        Ok(Self {
            method,
            name: name.to_owned(),
            password: login.password.as_ref().map_or("", Secret::expose),
            nonce: nonce.to_owned(),
            is_tls: login.tls.is_some(),
            is_local: matches!(login.target, SocketTarget::Unix(_)),
        })
    }

    /// Returns the response to a challenge of the server, if there is one.
    fn respond(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, PacketError> {
        if SOCKET_METHODS.contains(&&self.name[..]) {
            return Ok(Some(Vec::new()));
        }
        let sends_password = match self.method {
            AuthProc::MysqlNativePassword(_) => false,
            AuthProc::CachingSha2Password(_) => challenge == [FULL_AUTHENTICATION],
            _ => true,
        };
        if sends_password && !self.is_tls && !self.is_local {
            return Err(PacketError::Unsupported(format!(
                "the method {} sends the password itself, which needs TLS; set `tls`",
                String::from_utf8_lossy(&self.name)
            )));
        }
        let context = AuthenticationContext {
            password: self.password.as_bytes(),
            nonce: &self.nonce,
            is_tls: self.is_tls,
            is_local: self.is_local,
        };
        match self.method.run(context, challenge) {
            Ok(Response::Next { packet } | Response::Last { packet }) => Ok(packet),
            Err(error) => Err(PacketError::Unexpected(format!(
                "{}: {error}",
                String::from_utf8_lossy(&self.name)
            ))),
        }
    }
}

struct AuthenticationContext<'a> {
    password: &'a [u8],
    nonce: &'a [u8],
    is_tls: bool,
    is_local: bool,
}

impl Context for AuthenticationContext<'_> {
    fn pass(&self) -> &[u8] {
        self.password
    }

    fn is_ipc_transport(&self) -> bool {
        self.is_local
    }

    fn is_tls_transport(&self) -> bool {
        self.is_tls
    }

    fn scramble(&self) -> &[u8] {
        self.nonce
    }

    /// A key is not asked for: the password is sent over TLS alone.
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

fn unsupported(name: &[u8]) -> PacketError {
    PacketError::Unsupported(format!(
        "the method {} is not supported; use caching_sha2_password or mysql_native_password",
        String::from_utf8_lossy(name)
    ))
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut payload = Vec::new();
    packet.serialize(&mut payload);
    payload
}

const REFUSED: &str = "the server refuses connections";

/// Capabilities of MySQL 5.5 and newer, and of all versions of MariaDB.
const REQUIRED: CapabilityFlags = CapabilityFlags::CLIENT_PROTOCOL_41
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH);

/// Version of the protocol.
const PROTOCOL: u8 = 10;

/// Methods by which a server asks the system who connects to its Unix socket.
const SOCKET_METHODS: [&[u8]; 2] = [b"unix_socket", b"auth_socket"];

/// First bytes of packets during the login.
const MORE_DATA: u8 = 0x01;
const SWITCH_METHOD: u8 = 0xfe;

/// The challenge of caching_sha2_password to an account that the server has not cached.
const FULL_AUTHENTICATION: u8 = 4;

/// Longest packet of the client and of the server, in bytes.
const MAX_PACKET: u32 = 1 << 20;

/// The collation utf8mb4_general_ci.
const UTF8MB4: u8 = 45;

const MAX_CHALLENGES: usize = 8;

/// Longest part of a response in a message, in bytes.
const MAX_SHOWN: usize = 40;
