//! Authentication: basic, bearer, and tokens by OAuth 2.0.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, sync_channel},
};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Starts a server that passes each request's head to the receiver.
fn recording() -> (SocketAddr, Receiver<String>) {
    let (heads, asked) = sync_channel(10);
    let address = serve(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    (address, asked)
}

#[test]
fn basic_and_bearer_authentication_are_sent() {
    let (address, asked) = recording();
    let url = format!("http://{address}/");
    // me:s3cret
    let basic = json!({"url": url, "basic_auth": {"username": "me", "password": "s3cret"}});
    let bearer = json!({"url": url, "bearer": "abc.def"});
    for (config, value) in [(basic, "Basic bWU6czNjcmV0"), (bearer, "Bearer abc.def")] {
        assert_healthy(&patient(&config));
        let head = asked.recv().unwrap();
        assert!(
            head.contains(&format!("authorization: {value}\r\n")),
            "{head}"
        );
    }
}

#[test]
fn a_body_is_sent_and_dropped_with_its_method() {
    let (bodies, sent) = sync_channel(2);
    let address = serve(move |head, stream| {
        let mut body = vec![0; if head.starts_with("POST") { 5 } else { 0 }];
        stream.read_exact(&mut body).unwrap();
        bodies.send(String::from_utf8(body).unwrap()).unwrap();
        let answer = match head.split(' ').nth(1).unwrap() {
            "/" => "HTTP/1.1 303 See Other\r\nlocation: /done\r\ncontent-length: 0\r\n\r\n",
            _ => OK,
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let url = format!("http://{address}/");
    assert_healthy(&patient(
        &json!({"url": url, "method": "POST", "body": "h\u{eb}ll"}),
    ));
    assert_eq!(sent.recv().unwrap(), "h\u{eb}ll");
    assert_eq!(sent.recv().unwrap(), "");
}

/// Starts a token endpoint that issues `token-1`, `token-2`, …
fn token_endpoint(lifetime: &'static str) -> (SocketAddr, Receiver<String>) {
    let (requests, asked) = sync_channel(10);
    let issued = Arc::new(AtomicUsize::new(0));
    let address = serve(move |head, stream| {
        let length = head.to_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap();
        let mut form = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        stream.read_exact(&mut form).unwrap();
        requests
            .send(format!("{head}{}", String::from_utf8(form).unwrap()))
            .unwrap();
        let nth = issued.fetch_add(1, Ordering::SeqCst) + 1;
        let body =
            format!(r#"{{"access_token": "token-{nth}", "token_type": "Bearer"{lifetime}}}"#);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
    (address, asked)
}

fn oauth2(shop: SocketAddr, tokens: SocketAddr) -> Value {
    json!({
        "url": format!("http://{shop}/"),
        "oauth2": {
            "token_url": format!("http://{tokens}/token"), "client_id": "me", "client_secret": "s3cret",
            "scopes": ["read", "write"],
        },
    })
}

#[test]
fn a_token_is_used_until_shortly_before_it_expires() {
    for (lifetime, tokens_used) in [
        (r#", "expires_in": 3600"#, ["token-1", "token-1"]),
        (r#", "expires_in": 0"#, ["token-1", "token-2"]),
        ("", ["token-1", "token-1"]),
    ] {
        let (shop, asked) = recording();
        let (tokens, token_requests) = token_endpoint(lifetime);
        let host = TestHost::new("shop").timeout(MINUTE);
        let config = oauth2(shop, tokens).to_string();
        let mut probe = host.create_async::<HttpProbe>(&config).unwrap();
        for token in tokens_used {
            let report = host.check_async(&mut probe).unwrap();
            assert_healthy(&report);
            assert_eq!(report.value(&metrics::REDIRECTS, []), Some(0.0));
            let head = asked.recv().unwrap();
            assert!(
                head.contains(&format!("authorization: Bearer {token}\r\n")),
                "{head}"
            );
        }
        let request = token_requests.recv().unwrap();
        assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("authorization: Basic bWU6czNjcmV0\r\n"),
            "{request}"
        );
        assert!(
            request.ends_with("grant_type=client_credentials&scope=read+write"),
            "{request}"
        );
    }
}

#[test]
fn id_and_secret_are_fields_of_the_form_if_asked() {
    let (shop, _asked) = recording();
    let (tokens, token_requests) = token_endpoint("");
    let mut config = oauth2(shop, tokens);
    config["oauth2"]["client_auth"] = "body".into();
    assert_healthy(&patient(&config));
    let request = token_requests.recv().unwrap();
    assert!(!request.contains("authorization"), "{request}");
    assert!(
        request.ends_with("&client_id=me&client_secret=s3cret"),
        "{request}"
    );
}

#[test]
fn a_token_that_is_refused_is_replaced_at_the_next_check() {
    let (tokens, _requests) = token_endpoint("");
    let shop = serve(|head, stream| {
        let status = if head.contains("token-1") {
            "401 No"
        } else {
            "200 OK"
        };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let host = TestHost::new("shop").timeout(MINUTE);
    let config = oauth2(shop, tokens).to_string();
    let mut probe = host.create_async::<HttpProbe>(&config).unwrap();
    assert_unhealthy(&host.check_async(&mut probe).unwrap(), "401 Unauthorized");
    assert_healthy(&host.check_async(&mut probe).unwrap());
}

#[test]
fn a_check_without_a_token_is_a_failure() {
    let (shop, _asked) = recording();
    let error = r#"{"error": "invalid_client", "error_description": "unknown client"}"#;
    let refusing = answering(format!(
        "HTTP/1.1 401 No\r\ncontent-length: {}\r\n\r\n{error}",
        error.len()
    ));
    let failure = check(MINUTE, &oauth2(shop, refusing)).unwrap_err();
    let expected = format!(
        "cannot get a token from http://{refusing}/token: 401 Unauthorized, without a token: unknown client"
    );
    assert_eq!(failure.message(), expected);
    let silent = serve(|_, stream| keep_silent(stream));
    let failure = check(Duration::from_millis(300), &oauth2(shop, silent)).unwrap_err();
    assert!(failure.message().contains("OAuth 2.0 token"), "{failure}");
}
