//! The part of a response that is judged and measured.

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{RData, RecordType},
};

/// A response, reduced to the records of the queried type.
pub(crate) struct DnsAnswer {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    /// The records as `dig +short` prints them, texts without quotes.
    pub(crate) records: Vec<String>,
    /// The lowest time to live, in seconds; `None` without records.
    pub(crate) ttl: Option<u32>,
    /// The serial number of the zone; with a query for SOA.
    pub(crate) serial: Option<u32>,
}

impl DnsAnswer {
    pub(crate) fn of(message: &Message, question: &Query) -> Self {
        let wanted = question.query_type();
        let records: Vec<_> = message
            .answers
            .iter()
            .filter(|record| wanted == RecordType::ANY || record.record_type() == wanted)
            .collect();
        Self {
            code: message.metadata.response_code,
            authoritative: message.metadata.authoritative,
            ttl: records.iter().map(|record| record.ttl).min(),
            serial: records.iter().find_map(|record| match &record.data {
                RData::SOA(soa) if wanted == RecordType::SOA => Some(soa.serial),
                _ => None,
            }),
            records: records
                .iter()
                .map(|record| record.data.to_string())
                .collect(),
        }
    }
}
