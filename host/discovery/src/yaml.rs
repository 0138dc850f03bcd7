//! Reads YAML as JSON values in which every scalar is a text, as written.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Returns the values of a text; those of an empty one are null.
///
/// # Errors
/// The reason why it is not YAML, or of an unsupported kind, with its line.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let mut root = None;
    loop {
        match next(&mut parser)? {
            (Event::StreamEnd, _) => return Ok(root.unwrap_or_default()),
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), line) if root.is_some() => {
                return Err(format!("line {line}: there is a second document"));
            }
            (Event::DocumentStart(_), _) => {}
            (event, line) => root = Some(value(&mut parser, event, line, 0)?),
        }
    }
}

fn value<'a>(
    parser: &mut Parser<'a, StrInput<'a>>,
    event: Event<'a>,
    line: usize,
    depth: usize,
) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err(format!("line {line}: nested too deep"));
    }
    match event {
        Event::Scalar(text, style, 0, None) => {
            let is_nothing = style == ScalarStyle::Plain && NOTHING.contains(&text.as_ref());
            Ok(if is_nothing {
                Value::Null
            } else {
                Value::from(text.as_ref())
            })
        }
        Event::SequenceStart(0, None) => {
            let mut values = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => return Ok(Value::Array(values)),
                    (event, line) => values.push(value(parser, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut values = Map::new();
            loop {
                let (key, key_line) = match next(parser)? {
                    (Event::MappingEnd, _) => return Ok(Value::Object(values)),
                    (Event::Scalar(key, _, 0, None), line) => (key.into_owned(), line),
                    (_, line) => {
                        return Err(format!(
                            "line {line}: a key is a text without anchors, aliases and tags"
                        ));
                    }
                };
                let (event, line) = next(parser)?;
                let inside = value(parser, event, line, depth + 1)?;
                if values.contains_key(&key) {
                    return Err(format!("line {key_line}: `{key}` is given twice"));
                }
                values.insert(key, inside);
            }
        }
        _ => Err(format!(
            "line {line}: anchors, aliases and tags are not supported"
        )),
    }
}

fn next<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Result<(Event<'a>, usize), String> {
    match parser.next_event() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(format!("line {}: {}", error.marker().line(), error.info())),
        None => Ok((Event::StreamEnd, 0)),
    }
}

/// YAML's spellings of a missing value.
const NOTHING: [&str; 5] = ["", "~", "null", "Null", "NULL"];

/// The format needs four levels.
const DEEPEST: usize = 8;
