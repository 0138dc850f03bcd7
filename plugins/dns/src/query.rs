//! One query and its response, over UDP or a stream.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use conductor_net::{CheckError, TimeLimit, udp_socket};
use conductor_plugin_api::Failure;
use hickory_proto::op::{Edns, Message, MessageType, Query};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UdpSocket,
    time::timeout,
};

/// A query with a random id, ready to be sent.
#[derive(Clone)]
pub(crate) struct DnsQuery {
    id: u16,
    question: Query,
    bytes: Arc<[u8]>,
}

impl DnsQuery {
    pub(crate) fn new(question: Query, recursion: bool) -> Result<Self, CheckError> {
        let mut message = Message::query();
        message.add_query(question.clone());
        message.metadata.recursion_desired = recursion;
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(|error| {
            CheckError::Host(Failure::new(format!("cannot encode the query: {error}")))
        })?;
        Ok(Self {
            id: message.metadata.id,
            question,
            bytes: bytes.into(),
        })
    }

    /// Queries a server over UDP, again every second until it responds; the caller ends it.
    pub(crate) async fn over_udp(self, server: SocketAddr) -> Result<Message, CheckError> {
        let fault = |what: &str, error: &io::Error| {
            CheckError::of(format_args!("cannot {what} {server}"), error)
        };
        let socket = udp_socket(server).await?;
        loop {
            let sent = socket.send(&self.bytes).await;
            sent.map_err(|error| fault("send the query to", &error))?;
            if let Ok(response) = timeout(RESEND, self.receive(&socket)).await {
                return response
                    .map_err(|error| fault("get a response from", &error))
                    .flatten();
            }
        }
    }

    async fn receive(&self, socket: &UdpSocket) -> io::Result<Result<Message, CheckError>> {
        let mut buffer = [0; MAX_DATAGRAM as usize];
        loop {
            let size = socket.recv(&mut buffer).await?;
            // Others may send from a forged address; the server's own response is still to come.
            if let Some(response) = self.read(&buffer[..size]) {
                return Ok(response);
            }
        }
    }

    /// Queries the server at the other end of a stream: RFC 7766, section 8.
    pub(crate) async fn over_stream(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        limit: &TimeLimit<'_>,
    ) -> Result<Message, CheckError> {
        let Ok(received) = timeout(limit.left(), self.exchange(stream)).await else {
            return Err(CheckError::Platform(format!(
                "no answer within {} (waiting for the response)",
                limit.show()
            )));
        };
        let bytes =
            received.map_err(|error| CheckError::of("cannot exchange DNS messages", &error))?;
        self.read(&bytes).unwrap_or_else(|| {
            Err(CheckError::Platform(
                "the server responded to another query than the one sent".to_owned(),
            ))
        })
    }

    async fn exchange(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> io::Result<Vec<u8>> {
        let size = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        let request = [&size.to_be_bytes(), &*self.bytes].concat();
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut response = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut response).await?;
        Ok(response)
    }

    /// Returns the response in `bytes`; `None` if they are not a response to this query.
    fn read(&self, bytes: &[u8]) -> Option<Result<Message, CheckError>> {
        if bytes.first_chunk() != Some(&self.id.to_be_bytes()) {
            return None;
        }
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(error) => {
                return Some(Err(CheckError::Platform(format!(
                    "the response is not a valid DNS message: {error}"
                ))));
            }
        };
        // A server that rejects a query may leave the question out.
        let is_ours = message.queries.is_empty() || message.queries == [self.question.clone()];
        (is_ours && message.metadata.message_type == MessageType::Response).then_some(Ok(message))
    }
}

/// Time after which a query over UDP is sent again.
const RESEND: Duration = Duration::from_secs(1);

/// Largest response over UDP, in bytes, that reaches its target unfragmented: <https://www.dnsflagday.net/2020/>.
const MAX_DATAGRAM: u16 = 1232;
