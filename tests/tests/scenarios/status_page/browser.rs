//! A headless Chromium, controlled over its debugging pipe.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::platforms;
use crate::harness::PATIENCE;

#[test]
fn the_page_is_shown_kept_current_and_breaks_no_policy() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let host = platforms().start();
    browser.open(&format!("http://{}/", host.address));
    browser.wait_for("worst first", "rows() === 'bad,odd,good'");
    browser.wait_for("shapes and words", "row('bad').querySelector('.s').innerText.trim().startsWith('unknown') && row('bad').querySelector('.s svg use') !== null");
    browser.wait_for(
        "a label as text",
        "row('odd').innerText.includes('team=<b>chat</b>')",
    );
    browser.wait_for(
        "an open breaker with its trial",
        "row('bad').innerText.includes('breaker open, trial in')",
    );
    browser.wait_for(
        "a picture of the checks",
        "row('good').querySelector('.k path') !== null",
    );
    // Only the script replaces a row: a mark on the old one vanishes.
    browser.run("row('good').dataset.mark = 1");
    browser.wait_for("a newer row", "row('good').dataset.mark === undefined");

    // A platform that changes moves to its place, and a new one appears, without a reload.
    browser.run("window.before = 1");
    let config = host.setup.write();
    let text = std::fs::read_to_string(&config).unwrap();
    let changed = text.replace(
        "[platform.good]\nplugin = \"fault\"\nconfig = {}",
        "[platform.good]\nplugin = \"fault\"\nconfig = { status = \"unhealthy\" }\n[platform.zoo]\nplugin = \"fault\"\nconfig = {}",
    );
    assert_ne!(text, changed);
    std::fs::write(&config, changed).unwrap();
    host.reload();
    browser.wait_for("the new order", "rows() === 'bad,good,odd,zoo'");
    browser.wait_for("the summary", "document.querySelector('#say').textContent === '1 unknown, 1 unhealthy, 1 degraded, 1 healthy'");
    browser.wait_for("no reload", "window.before === 1");

    // A refusal removes nothing from the page, which shows that it is old and recovers by itself.
    browser.run("(window.real = window.fetch, window.fetch = async () => new Response('Too many requests', { status: 429 }), 0)");
    browser.run("document.querySelector('#q').dispatchEvent(new Event('input'))");
    browser.wait_for("a notice", "document.querySelector('#say[role=status]').textContent.startsWith('Out of date') && document.body.className === 'lost'");
    browser.wait_for("the rows as they were", "rows() === 'bad,good,odd,zoo'");
    browser.run("(window.fetch = window.real, 0)");
    browser.wait_for("what is new", "document.body.className === '' && document.querySelector('#say').textContent.startsWith('1 unknown')");
    browser.run("row('good').dataset.mark = 1");
    browser.wait_for("a newer row", "row('good').dataset.mark === undefined");
    browser.wait_for("no reload", "window.before === 1");

    browser.open(&format!("http://{}/?show=problems", host.address));
    browser.wait_for("the filter", "rows() === 'bad,good'");
    browser.open(&format!("http://{}/platforms/odd", host.address));
    browser.wait_for("the page of a platform", "document.querySelector('h1').innerText === 'odd' && document.querySelectorAll('tbody tr').length > 2");
    browser.wait_for("no buttons", "document.querySelector('button') === null");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_works_without_javascript() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let host = platforms().start();
    host.wait("an open breaker", |m| {
        m.breaker("bad") == 1.0 && m.checks("good", "healthy") > 2.0
    });
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        &json!({ "value": true }),
    );
    for (path, texts) in [
        (
            "/",
            ["1 unknown, 1 degraded, 1 healthy", "breaker open, trial"],
        ),
        ("/?show=problems", ["injected error", "generation 1"]),
        ("/platforms/bad", ["Last checks", "circuit breaker"]),
    ] {
        browser.open(&format!("http://{}{path}", host.address));
        for text in texts {
            browser.wait_for(text, &format!("document.body.innerText.includes({text:?})"));
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn buttons_act_where_lifecycle_calls_are_enabled() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let host = platforms().start_with(&["--web.enable-lifecycle"]);
    host.wait("a first check", |m| m.checks("good", "healthy") >= 1.0);
    browser.open(&format!("http://{}/platforms/good", host.address));
    browser.run("document.querySelector('#open').click()");
    browser.wait_for(
        "what was done",
        "document.body.innerText.includes('An operator holds the breaker open')",
    );
    host.wait("a breaker held open", |m| m.breaker("good") == 1.0);
    browser.wait_for(
        "the way back",
        "document.querySelector('#release') !== null",
    );
    browser.run("document.querySelector('#check').click()");
    browser.wait_for(
        "why not",
        "document.body.innerText.includes('an operator holds its breaker open (release it first)')",
    );
    browser.run("document.querySelector('#back').click()");
    browser.wait_for(
        "the platform's page",
        "document.querySelector('h1').innerText === 'good' && document.body.innerText.includes('paused')",
    );
    browser.run("document.querySelector('#reset').click()");
    host.wait("a closed breaker", |m| m.breaker("good") == 0.0);

    // If the breaker opened by itself, the check is its trial.
    host.wait("an open breaker", |m| m.breaker("bad") == 1.0);
    let trials = host.metrics().checks("bad", "failed");
    browser.open(&format!("http://{}/platforms/bad", host.address));
    browser.wait_for(
        "a trial on offer",
        "document.querySelector('#check').innerText.includes('as the breaker')",
    );
    browser.run("document.querySelector('#check').click()");
    host.wait("a trial", |m| m.checks("bad", "failed") > trials);
}

#[test]
fn a_row_covers_no_name_and_the_page_says_since_when_its_host_is_gone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut host = platforms().start_with(&["--web.enable-lifecycle"]);
    host.wait("a first check", |m| m.checks("good", "healthy") >= 1.0);
    browser.open(&format!("http://{}/", host.address));
    browser.run("(fetch('/api/v1/platforms/good/breaker/open', { method: 'POST' }), 0)");
    host.wait("a breaker held open", |m| m.breaker("good") == 1.0);
    browser.wait_for("a mark", "row('good').querySelector('.old') !== null");
    for width in [1280, 1024, 400] {
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.wait_for(
            "a name beside the mark",
            "(([a, b]) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)(['.old', 'h3'].map((what) => row('good').querySelector(what).getBoundingClientRect()))",
        );
    }
    assert!(host.stop().success());
    browser.wait_for(
        "when the host was lost",
        "/^Host unreachable since \\d\\d:\\d\\d$/.test(document.title) && document.querySelector('#say').innerText === document.title",
    );
}

struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Returns `None`, with a message, if there is no Chromium.
    fn start() -> Option<Self> {
        if Command::new("chromium").arg("--version").output().is_err() {
            eprintln!("skipped: there is no chromium on this machine");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        // It communicates over the descriptors 3 and 4.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
            --remote-debugging-pipe --user-data-dir=\"$0\" about:blank 3<&0 4>&1 >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut browser = Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            session: None,
            last_id: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let targets = browser.call("Target.getTargets", &json!({}));
        let mut targets = targets["targetInfos"].as_array().unwrap().iter();
        let page = targets.find(|target| target["type"] == "page").unwrap();
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": page["targetId"], "flatten": true }),
        );
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    fn open(&mut self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
        self.wait_for(
            address,
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        );
    }

    /// Returns the value of an expression.
    fn run(&mut self, script: &str) -> Value {
        // In a separate scope: the page's script has names, too.
        let script = format!(
            "(() => {{ const row = (name) => document.getElementById('p-' + name), \
             rows = () => [...document.querySelectorAll('.p')].map((row) => row.id.slice(2)).join(); \
             return ({script}); }})()"
        );
        let expression = json!({ "expression": script, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &expression);
        answer["result"]["value"].clone()
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, condition: &str) {
        let start = Instant::now();
        while self.run(condition) != true {
            if start.elapsed() > PATIENCE {
                let page = self.run("location.href + '\\n' + document.documentElement.innerText");
                panic!(
                    "waited in vain for {what}: {condition}\n{}\n{:#?}",
                    page.as_str().unwrap_or(""),
                    self.complaints
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the messages of the console and the policy so far.
    fn complaints(&mut self) -> Vec<String> {
        self.run("1");
        std::mem::take(&mut self.complaints)
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let mut order = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        write!(self.orders, "{order}\0").unwrap();
        self.orders.flush().unwrap();
        loop {
            let mut message = Vec::new();
            self.answers.read_until(0, &mut message).unwrap();
            message.pop();
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            let event = message["method"].as_str().unwrap_or("");
            if matches!(
                event,
                "Log.entryAdded" | "Runtime.consoleAPICalled" | "Runtime.exceptionThrown"
            ) {
                self.complaints.push(message.to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
