//! Properties of any text, and of large files.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Reads the text, and calls everything on the result that could panic.
fn survives(text: &str) {
    match parse(text) {
        Ok(config) => {
            assert!(!config.platforms.is_empty());
            let host = &config.host;
            assert!(host.tick <= host.stagger && host.stagger <= host.interval);
            assert!(host.timeout <= host.interval && host.stuck_limit <= host.call_threads);
            assert!(config.resources.recover_below < config.resources.degraded_above);
            assert!(config.resources.degraded_above <= config.resources.critical_above);
            for platform in &config.platforms {
                assert!(platform.timeout <= platform.interval && host.tick <= platform.interval);
                assert!(platform.breaker.reset_timeout <= platform.breaker.max_reset_timeout);
                assert!(config.locate(&platform.name, "/path/0").line > 0);
            }
        }
        Err(error) => {
            let plain = error.to_plain();
            assert!(plain.starts_with("conductor.toml:"), "{plain}");
            assert!(
                !plain.contains("does not fit its schema"),
                "the schema let it pass: {plain}"
            );
            let _ = format!("{:?}", miette::Report::new(error));
        }
    }
}

/// A piece of a configuration, right or wrong.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[host]\n",
        "[breaker]\n",
        "[resources]\n",
        "[plugin.http]\n",
        "[platform.a]\n",
        "[platform.\"a.b\"]\n",
        "[platform.a.config]\n",
        "[[platform]]\n",
        "[platform",
        "plugin = \"http\"\n",
        "interval = ",
        "timeout = ",
        "stagger = ",
        "tick = ",
        "reset_timeout = ",
        "max_reset_timeout = ",
        "call_threads = ",
        "stuck_limit = ",
        "limits = { memory = ",
        "allow = [",
        "\"1GiB\"\n",
        "\"read /x\"",
        "degraded_above = ",
        "recover_below = ",
        "critical_above = ",
        "labels = { team = ",
        "config = { x = ",
        "breaker.reset_timeout = ",
        "\"5s\"\n",
        "\"100ms\"\n",
        "\"1ms\"\n",
        "\"1h\"\n",
        "\"999999999y\"\n",
        "5\n",
        "50\n",
        "99.5\n",
        "-1\n",
        "nan\n",
        "1979-05-27T07:32:00Z\n",
        "[]\n",
        "[1, {}]\n",
        "}\n",
        "\"\"\"",
        "'",
        "ü",
        "\r\n",
        "\u{feff}",
        "=",
        ".",
        "\n[[a.b]]\n[a.b]\n",
    ];
    proptest::sample::select(words.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_order_of_pieces_makes_the_parser_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        survives(&pieces.concat());
    }

    #[test]
    fn no_mutation_of_a_good_file_makes_the_parser_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, "\\PC{0,3}|\n|\"|[\\[\\]{}=.#']"), 1..6),
    ) {
        let mut text: Vec<char> = default_text().chars().collect();
        for (at, removed, put) in edits {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, put.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn every_duration_that_is_read_is_shown_so_that_it_reads_the_same(milliseconds in 1_u64..31_536_000_000) {
        use elements::duration;
        let time = Duration::from_millis(milliseconds);
        prop_assert_eq!(duration::parse(&humantime::format_duration(time).to_string()), Ok(time));
    }
}

#[test]
fn ten_thousand_platforms_are_read_without_a_quadratic_step() {
    let file = |count: usize| {
        let mut text = String::new();
        for i in 0..count {
            writeln!(text, "[platform.p{i:05}]\nplugin = \"http\"\nconfig = {{ url = \"http://[::1]:80/{i}\" }}").unwrap();
        }
        text
    };
    let seconds = |text: &str, expect: usize| {
        #[expect(clippy::disallowed_methods, reason = "this test measures")]
        let now = std::time::Instant::now;
        let start = now();
        assert_eq!(read(text).platforms.len(), expect);
        start.elapsed().as_secs_f64()
    };
    let (small, large) = (file(1_000), file(10_000));
    let few = (0..3)
        .map(|_| seconds(&small, 1_000))
        .fold(f64::INFINITY, f64::min);
    let many = (0..3)
        .map(|_| seconds(&large, 10_000))
        .fold(f64::INFINITY, f64::min);
    println!(
        "1 000 platforms: {few:.3} s, 10 000 ({} bytes): {many:.3} s",
        large.len()
    );
    // Linear is 10 times, quadratic 100.
    assert!(
        many < few * 40.0,
        "{few} s for 1 000 platforms, {many} s for 10 000"
    );
}
