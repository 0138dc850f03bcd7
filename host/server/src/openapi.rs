//! The API's OpenAPI 3.1 description, with schemas generated from the response types.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse as _, Response},
};
use conductor_types::{
    requests::{Heartbeat, MaintenanceEnd, MaintenanceOrder},
    views::{
        ExportPage, HistoryRange, HostView, IncidentView, PlatformDetail, PlatformHistoryView,
        PlatformUptimeView, PlatformView, PluginDetail, StatusView, WindowView,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, Bytes::clone(&TEXT)).into_response()
}

/// Returns the OpenAPI description of the JSON API, as `/api/v1/openapi.json` serves it.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = format!("{PREFIX}{}", operation.path);
        let described = operation.describe(&mut generator);
        let method = operation.method.to_owned();
        match paths.entry(path).or_insert_with(|| json!({})) {
            Value::Object(methods) => methods.insert(method, described),
            _ => None,
        };
    }
    // Sent only in events.
    generator.subschema_for::<HostView>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Conductor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "State of the platforms that a host monitors. Times are seconds since 1970, durations are seconds. Fields may be added to any object.",
        },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

struct ApiOperation {
    method: &'static str,
    /// Without the common prefix.
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// The request body, if there is one.
    body: Option<fn(&mut SchemaGenerator) -> Schema>,
    answer: OperationResponse,
    /// Status codes other than that of the response, each with its reason. All operations may also return 503.
    others: &'static [(&'static str, &'static str)],
}

enum OperationResponse {
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A response of this type, with this status code.
    Other(&'static str, &'static str),
}

impl ApiOperation {
    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let (code, content_type, schema) = match &self.answer {
            OperationResponse::Json(schema) => {
                ("200", "application/json", json!(schema(generator)))
            }
            OperationResponse::Other(code, content_type) => {
                (*code, *content_type, json!({ "type": "string" }))
            }
        };
        let mut responses = Map::new();
        responses.insert(
            code.to_owned(),
            json!({ "description": self.summary, "content": { (content_type): { "schema": schema } } }),
        );
        let busy = (
            "503",
            "Too many requests at once, or the host is shutting down.",
        );
        for (code, why) in self.others.iter().chain([&busy]) {
            let text = json!({ "text/plain": { "schema": { "type": "string" } } });
            responses.insert(
                (*code).to_owned(),
                json!({ "description": why, "content": text }),
            );
        }
        let query = QUERIES.iter().filter(|(id, _, _)| *id == self.id);
        let query = query.map(|(_, name, what)| {
            let schema = match *name {
                "range" => json!(generator.subschema_for::<HistoryRange>()),
                "limit" | "after" => json!({ "type": "integer" }),
                _ => json!({ "type": "string" }),
            };
            json!({ "name": name, "in": "query", "description": what, "schema": schema })
        });
        let query: Vec<_> = query.collect();
        let parameters: Vec<_> = self.parameters().chain(query).collect();
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = self.body {
            let content = json!({ "application/json": { "schema": body(generator) } });
            // A heartbeat without a body is a success.
            let required = self.id != "heartbeat";
            described["requestBody"] = json!({ "required": required, "content": content });
        }
        described
    }

    /// Returns the variables of the path.
    fn parameters(&self) -> impl Iterator<Item = Value> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| {
            let name = segment.strip_prefix('{')?.strip_suffix('}')?;
            let schema = match name {
                "order" => {
                    json!({ "type": "string", "enum": ["open", "close", "release", "reset"] })
                }
                _ => json!({ "type": "string" }),
            };
            Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
        })
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const PREFIX: &str = "/api/v1";

const UNKNOWN: (&str, &str) = ("404", "No such platform.");
const REFUSED: (&str, &str) = (
    "403",
    "Not enabled, or requested by a page of another site.",
);
const INVALID: (&str, &str) = ("400", "The body is invalid; the text gives the reason.");
const BACK: (&str, &str) = (
    "303",
    "Done; a browser is redirected to the platform's page.",
);

const NO_HISTORY: (&str, &str) = ("501", "The config turns the history off.");
const WRONG_QUERY: (&str, &str) = ("400", "A parameter is wrong; the text gives the reason.");

/// The parameters in the URL's query, each with the id of its operation.
const QUERIES: &[(&str, &str, &str)] = &[
    (
        "history",
        "range",
        "Length of the past, back from now; 24h without it.",
    ),
    (
        "incidents",
        "since",
        "Length of the past that the incidents overlap, for example 2d; 7d without it.",
    ),
    (
        "incidents",
        "platform",
        "Name of a platform; may be given several times. Without it: all.",
    ),
    (
        "incidents",
        "limit",
        "Greatest number of incidents, at most 1000.",
    ),
    (
        "uptime",
        "platform",
        "Name of a platform; may be given several times. Without it: all that are monitored.",
    ),
    (
        "export",
        "since",
        "Length of the past, for example 2d; all without it.",
    ),
    ("export", "after", "The field `next` of the page before."),
];

const OPERATIONS: &[ApiOperation] = &[
    ApiOperation {
        method: "get",
        path: "/status",
        id: "status",
        summary: "The host, its platforms and its plugins.",
        body: None,
        answer: OperationResponse::Json(schema_of::<StatusView>),
        others: &[],
    },
    ApiOperation {
        method: "get",
        path: "/platforms",
        id: "platforms",
        summary: "The platforms, in the config's order.",
        body: None,
        answer: OperationResponse::Json(schema_of::<Vec<PlatformView>>),
        others: &[],
    },
    ApiOperation {
        method: "get",
        path: "/platforms/{name}",
        id: "platform",
        summary: "One platform with its last checks and log lines.",
        body: None,
        answer: OperationResponse::Json(schema_of::<PlatformDetail>),
        others: &[UNKNOWN],
    },
    ApiOperation {
        method: "get",
        path: "/platforms/{name}/badge.svg",
        id: "badge",
        summary: "Badge with its name and state.",
        body: None,
        answer: OperationResponse::Other("200", "image/svg+xml"),
        others: &[UNKNOWN],
    },
    ApiOperation {
        method: "get",
        path: "/platforms/{name}/history",
        id: "history",
        summary: "Its past: uptime, states, incidents, and durations of checks.",
        body: None,
        answer: OperationResponse::Json(schema_of::<PlatformHistoryView>),
        others: &[WRONG_QUERY, UNKNOWN, NO_HISTORY],
    },
    ApiOperation {
        method: "get",
        path: "/incidents",
        id: "incidents",
        summary: "Incidents of all platforms or some, the latest first.",
        body: None,
        answer: OperationResponse::Json(schema_of::<Vec<IncidentView>>),
        others: &[WRONG_QUERY, NO_HISTORY],
    },
    ApiOperation {
        method: "get",
        path: "/uptime",
        id: "uptime",
        summary: "Uptime of all platforms or some, over 24 hours, 7, 30 and 90 days.",
        body: None,
        answer: OperationResponse::Json(schema_of::<Vec<PlatformUptimeView>>),
        others: &[WRONG_QUERY, NO_HISTORY],
    },
    ApiOperation {
        method: "get",
        path: "/history/export",
        id: "export",
        summary: "The stored changes of state, a page at a time, the oldest first.",
        body: None,
        answer: OperationResponse::Json(schema_of::<ExportPage>),
        others: &[WRONG_QUERY, NO_HISTORY],
    },
    ApiOperation {
        method: "get",
        path: "/plugins",
        id: "plugins",
        summary: "The plugins that the config names, each with the JSON Schema of its config.",
        body: None,
        answer: OperationResponse::Json(schema_of::<Vec<PluginDetail>>),
        others: &[],
    },
    ApiOperation {
        method: "get",
        path: "/maintenance",
        id: "maintenance",
        summary: "The maintenance windows, in force or not.",
        body: None,
        answer: OperationResponse::Json(schema_of::<Vec<WindowView>>),
        others: &[],
    },
    ApiOperation {
        method: "post",
        path: "/maintenance",
        id: "start_maintenance",
        summary: "Starts maintenance of platforms.",
        body: Some(schema_of::<MaintenanceOrder>),
        answer: OperationResponse::Other("200", "text/plain"),
        others: &[REFUSED, INVALID, UNKNOWN],
    },
    ApiOperation {
        method: "post",
        path: "/maintenance/end",
        id: "end_maintenance",
        summary: "Ends maintenance that was started by request.",
        body: Some(schema_of::<MaintenanceEnd>),
        answer: OperationResponse::Other("200", "text/plain"),
        others: &[
            REFUSED,
            INVALID,
            UNKNOWN,
            (
                "409",
                "The window is defined in the config and must be changed there.",
            ),
        ],
    },
    ApiOperation {
        method: "get",
        path: "/events",
        id: "events",
        summary: "Server-sent events, sent at most once a second: `host` with a HostView, `platform` with a PlatformView, `removed` with the name of a removed platform. A new client gets the full state, and one that sends Last-Event-ID the events that it missed; `reset` means that the full state follows.",
        body: None,
        answer: OperationResponse::Other("200", "text/event-stream"),
        others: &[],
    },
    ApiOperation {
        method: "get",
        path: "/openapi.json",
        id: "openapi",
        summary: "This document.",
        body: None,
        answer: OperationResponse::Json(|_| schemars::json_schema!({ "type": "object" })),
        others: &[],
    },
    ApiOperation {
        method: "post",
        path: "/platforms/{name}/check",
        id: "check",
        summary: "Checks it now, in addition to its schedule.",
        body: None,
        answer: OperationResponse::Other("202", "text/plain"),
        others: &[
            BACK,
            REFUSED,
            UNKNOWN,
            (
                "409",
                "It cannot be checked now; the text gives the reason.",
            ),
        ],
    },
    ApiOperation {
        method: "post",
        path: "/platforms/{name}/breaker/{order}",
        id: "order_breaker",
        summary: "Holds its breaker open or closed, returns it to automatic control, or resets it.",
        body: None,
        answer: OperationResponse::Other("200", "text/plain"),
        others: &[BACK, REFUSED, UNKNOWN],
    },
    ApiOperation {
        method: "post",
        path: "/heartbeat/{name}",
        id: "heartbeat",
        summary: "Records a heartbeat of a job, and checks its platform. The header `Authorization: Bearer TOKEN` has the platform's token.",
        body: Some(schema_of::<Heartbeat>),
        answer: OperationResponse::Other("200", "text/plain"),
        others: &[
            ("400", "A field is invalid; the text gives the reason."),
            ("401", "The token is missing or wrong."),
            ("404", "No such platform, or it accepts no heartbeats."),
            (
                "429",
                "More than one heartbeat a second, after a burst of 10.",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_api_is_described_and_nothing_else() {
        let routes = concat!(include_str!("api.rs"), include_str!("heartbeat.rs"));
        let routes = routes.split(".route(").skip(1).flat_map(|rest| {
            let mut parts = rest.split('"');
            let path = parts.nth(1).unwrap().to_owned();
            let calls = parts.next().unwrap().lines().next().unwrap_or_default();
            let methods = ["get", "post"].into_iter();
            let methods = methods.filter(move |method| calls.contains(&format!("{method}(")));
            methods.map(move |method| (path.clone(), method.to_owned()))
        });
        let mut routes: Vec<_> = routes.collect();
        let described = OPERATIONS
            .iter()
            .map(|o| (o.path.to_owned(), o.method.to_owned()));
        let mut described: Vec<_> = described.collect();
        routes.sort();
        described.sort();
        assert_eq!(routes, described);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        assert!(text.contains("#/components/schemas/PlatformView"));
    }
}
