//! Bodies with a content encoding, whether it was asked for or not.

use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{self, HeaderMap};

use crate::exchange::MAX_BODY;

/// The value of `accept-encoding` that asks for compression.
pub(crate) const ENCODINGS: &str = "gzip, deflate, br";

/// A body as it is judged.
pub(crate) struct DecodedBody {
    /// At most [`MAX_BODY`] bytes; as received if it cannot be decoded.
    pub(crate) bytes: Vec<u8>,
    /// The encoding that it does not have, although its head names it.
    pub(crate) fault: Option<String>,
}

/// Decodes a body according to the head of its response.
pub(crate) fn decode(headers: &HeaderMap, body: Vec<u8>) -> DecodedBody {
    let named = headers.get_all(header::CONTENT_ENCODING).iter();
    let named: Vec<_> = named.filter_map(|value| value.to_str().ok()).collect();
    let named = named.join(",");
    let encodings = named
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    let applied = encodings.filter(|name| !name.is_empty() && name != "identity");
    let mut bytes = body;
    // The last one was applied last.
    for encoding in applied.collect::<Vec<_>>().into_iter().rev() {
        if bytes.is_empty() {
            break;
        }
        match decoded(&encoding, &bytes) {
            Ok(decoded) => bytes = decoded,
            Err(_) => {
                let fault = Some(encoding);
                return DecodedBody { bytes, fault };
            }
        }
    }
    DecodedBody { bytes, fault: None }
}

fn decoded(encoding: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    match encoding {
        "gzip" | "x-gzip" => all(body, MultiGzDecoder::new(body)),
        // Servers send it with and without the header of zlib.
        "deflate" => {
            all(body, ZlibDecoder::new(body)).or_else(|_| all(body, DeflateDecoder::new(body)))
        }
        "br" => all(body, Decompressor::new(body, BUFFER)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Reads at most [`MAX_BODY`] bytes; an encoded body that was cut off there is decoded as far as it goes.
fn all(body: &[u8], decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    match decoder.take(limit).read_to_end(&mut decoded) {
        Err(error) if body.len() < MAX_BODY || decoded.is_empty() => Err(error),
        _ => Ok(decoded),
    }
}

const BUFFER: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write};
    use hyper::header::HeaderValue;

    use super::*;

    fn decode(encoding: &str, body: &[u8]) -> (Vec<u8>, Option<String>) {
        let value = HeaderValue::try_from(encoding).unwrap();
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, value)]);
        let decoded = super::decode(&headers, body.to_vec());
        (decoded.bytes, decoded.fault)
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::default());
        let mut raw = write::DeflateEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(body).unwrap();
        raw.write_all(body).unwrap();
        (zlib.finish().unwrap(), raw.finish().unwrap())
    }

    #[test]
    fn every_encoding_that_is_asked_for_is_decoded() {
        let (zlib, raw) = deflate(b"ok");
        let brotli = b"\x8b\x00\x80ok\x03".to_vec();
        for (encoding, body) in [
            ("gzip", gzip(b"ok")),
            ("X-GZIP", gzip(b"ok")),
            ("deflate", zlib),
            ("deflate", raw),
            ("br", brotli),
            ("identity", b"ok".to_vec()),
            ("gzip, gzip", gzip(&gzip(b"ok"))),
            ("", b"ok".to_vec()),
        ] {
            assert_eq!(
                decode(encoding, &body),
                (b"ok".to_vec(), None),
                "{encoding}"
            );
        }
    }

    #[test]
    fn a_body_that_is_not_what_its_head_says_stays() {
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let expected = (b"<html>".to_vec(), Some(encoding.to_owned()));
            assert_eq!(decode(encoding, b"<html>"), expected, "{encoding}");
        }
        assert_eq!(decode("gzip", b""), (Vec::new(), None), "as after HEAD");
    }

    #[test]
    fn a_small_body_that_becomes_large_is_cut_off() {
        let (bytes, fault) = decode("gzip", &gzip(&vec![b'x'; 3 * MAX_BODY]));
        assert_eq!((bytes.len(), fault), (MAX_BODY, None));
    }
}
