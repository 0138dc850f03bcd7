//! Parses the web config's text into JSON values and their places, or reports where it is not supported YAML.
//!
//! Every scalar becomes a string, as written: the schema knows which ones are numbers or booleans, and a header whose
//! value is `0` or a user called `123` needs no quotes. A key without a value counts as missing; its place is kept for
//! keys that must not be left empty.

use std::{collections::BTreeMap, ops::Range};

use conductor_runtime::wording::{bare_or_quoted, shorten};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use crate::{
    error::ConfigMistake,
    spans::{SpanChildren, SpanTree},
};

/// Returns the text's values, their places, and the duplicate keys, of which the first counts; an empty text is null.
///
/// # Errors
/// When it is not YAML, or of an unsupported kind.
pub(super) fn parse(
    text: &str,
) -> Result<(Value, SpanTree, Vec<ConfigMistake>), Vec<ConfigMistake>> {
    let start = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len_utf8()
    } else {
        0
    };
    let offsets = text[start..].char_indices().map(|(at, _)| start + at);
    let mut reading = YamlReader {
        parser: Parser::new_from_str(&text[start..]),
        offsets: offsets.chain([text.len()]).collect(),
        faults: Vec::new(),
    };
    match reading.document() {
        Ok((values, places)) => Ok((values, places, reading.faults)),
        Err(fault) => {
            reading.faults.push(fault);
            Err(reading.faults)
        }
    }
}

struct YamlReader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// The byte offset of each character, and of the end.
    offsets: Vec<usize>,
    /// Mistakes that do not prevent reading the rest.
    faults: Vec<ConfigMistake>,
}

type Found = (Value, SpanTree);

impl<'a> YamlReader<'a> {
    fn document(&mut self) -> Result<Found, ConfigMistake> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(ConfigMistake::new("there is a second document")
                        .help("remove the line `---` and what follows it")
                        .at(place));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.value(event, place, 0)?),
            }
        }
        Ok(root.unwrap_or_default())
    }

    fn value(
        &mut self,
        event: Event<'a>,
        place: Range<usize>,
        depth: usize,
    ) -> Result<Found, ConfigMistake> {
        if depth > DEEPEST {
            return Err(ConfigMistake::new("this is nested too deep").at(place));
        }
        match event {
            Event::Scalar(text, style, 0, None) => {
                let none = style == ScalarStyle::Plain && NOTHING.contains(&text.as_ref());
                let value = if none {
                    Value::Null
                } else {
                    Value::from(text.as_ref())
                };
                Ok((value, at(place, SpanChildren::Nothing)))
            }
            Event::SequenceStart(0, None) => self.sequence(place, depth),
            Event::MappingStart(0, None) => self.mapping(place, depth),
            _ => Err(
                ConfigMistake::new("anchors, aliases and tags are not understood here")
                    .help("write the value out")
                    .at(place),
            ),
        }
    }

    fn sequence(&mut self, start: Range<usize>, depth: usize) -> Result<Found, ConfigMistake> {
        let (mut values, mut places) = (Vec::new(), Vec::new());
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((Value::Array(values), at(start, SpanChildren::List(places))));
            }
            let (value, place) = self.value(event, place, depth + 1)?;
            values.push(value);
            places.push(place);
        }
    }

    fn mapping(&mut self, start: Range<usize>, depth: usize) -> Result<Found, ConfigMistake> {
        let (mut values, mut places) = (Map::new(), BTreeMap::<String, SpanTree>::new());
        loop {
            let (event, key_place) = self.next()?;
            let key = match event {
                Event::MappingEnd => {
                    return Ok((
                        Value::Object(values),
                        at(start, SpanChildren::Table(places)),
                    ));
                }
                Event::Scalar(key, _, 0, None) => key.into_owned(),
                _ => return Err(ConfigMistake::new("this cannot be a key").at(key_place)),
            };
            let (event, place) = self.next()?;
            let (value, place) = self.value(event, place, depth + 1)?;
            if let Some(first) = places.get(&key) {
                let fault = ConfigMistake::new(format!("{} is given twice", bare_or_quoted(&key)));
                let fault = fault.help("keep one of the two").at(key_place);
                self.faults.push(fault.first(Some(first.key.clone())));
                continue;
            }
            let place = SpanTree {
                key: key_place,
                ..place
            };
            places.insert(key.clone(), place);
            if !value.is_null() {
                values.insert(key, value);
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), ConfigMistake> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.place(span))),
            Some(Err(error)) => {
                let at = self.offset(error.marker().index());
                let message = format!("not YAML: {}", shorten(error.info()));
                Err(ConfigMistake::new(message).at(at..at))
            }
            None => Ok((Event::StreamEnd, 0..0)),
        }
    }

    fn place(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start.index());
        start..self.offset(span.end.index()).max(start)
    }

    fn offset(&self, character: usize) -> usize {
        let last = self.offsets.len() - 1;
        self.offsets[character.min(last)]
    }
}

fn at(value: Range<usize>, inside: SpanChildren) -> SpanTree {
    SpanTree {
        key: 0..0,
        value,
        inside,
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// YAML's spellings of a missing value.
const NOTHING: [&str; 5] = ["", "~", "null", "Null", "NULL"];

/// The format needs three levels.
const DEEPEST: usize = 16;
