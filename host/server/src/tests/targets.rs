//! `/probe`.

use super::*;

#[test]
fn a_scraper_gets_a_response_before_it_gives_up() {
    let host = Host::default();
    let server = host.serve(ServerLimits::default());
    for (timeout, waited) in [("10", "9.5"), ("0.4", "0.2"), ("1000", "28"), ("x", "27.5")] {
        let answer = server.ask(&request(&format!(
            "X-Prometheus-Scrape-Timeout-Seconds: {timeout}\r\n"
        )));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\nprobe_success 0\n"), "{answer}");
        let line = format!("\nprobe_duration_seconds {waited}\n");
        assert!(answer.contains(&line), "{timeout}: {answer}");
    }
}

#[test]
fn pages_of_other_sites_have_nothing_checked() {
    let server = Host::default().serve(ServerLimits::default());
    let answer = server.ask(&request("Sec-Fetch-Site: cross-site\r\n"));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let answer = server.ask(&request("Sec-Fetch-Site: none\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn request(headers: &str) -> String {
    format!(
        "GET /probe?target=localhost HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"
    )
}
