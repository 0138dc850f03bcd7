//! Performance data and output, as plugins write them.

use conductor_plugin_api::{Report, testing::assert_legal};
use proptest::prelude::*;

use crate::{
    nagios::PluginOutput,
    performance::{self, PerformanceValue, ValueUnit},
};

fn values(text: &str) -> Vec<PerformanceValue> {
    performance::parse(text, false).values
}

/// Returns label, value and unit of each value, then its limits.
fn shown(text: &str) -> String {
    let shown = values(text).into_iter().map(|value| {
        let unit = match &value.unit {
            ValueUnit::Seconds => "seconds",
            ValueUnit::Bytes => "bytes",
            ValueUnit::Ratio => "ratio",
            ValueUnit::Counter => "total",
            ValueUnit::Other(unit) => unit,
        };
        let limits: String = value
            .limits
            .iter()
            .map(|(name, limit)| format!(" {name}={limit}"))
            .collect();
        format!("[{}] {}{unit}{limits}", value.label, value.value)
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn performance_data_is_read_as_it_is_written() {
    for (text, expected) in [
        // Of real plugins.
        (
            "/=12345MB;20000;22500;0;25000",
            "[/] 12944670720bytes warn=20971520000 crit=23592960000 min=0 max=26214400000",
        ),
        (
            "time=0.002722s;;;0.000000;10.000000 size=1024B;;;0",
            "[time] 0.002722seconds min=0 max=10, [size] 1024bytes min=0",
        ),
        (
            "rta=0.062000ms;100.000000;500.000000;0.000000 pl=0%;20;60;0",
            "[rta] 0.000062seconds warn=0.1 crit=0.5 min=0, [pl] 0ratio warn=0.2 crit=0.6 min=0",
        ),
        (
            "load1=0.530;5.000;10.000;0; load5=0.400;4.000;6.000;0;",
            "[load1] 0.53 warn=5 crit=10 min=0, [load5] 0.4 warn=4 crit=6 min=0",
        ),
        ("users=1;5;10;0", "[users] 1 warn=5 crit=10 min=0"),
        (
            "offset=-0.000022s;60;120;",
            "[offset] -0.000022seconds warn=60 crit=120",
        ),
        (
            "requests=12345c traffic=9c",
            "[requests] 12345total, [traffic] 9total",
        ),
        // Quoting.
        ("'C:\\ used space'=5B", "[C:\\ used space] 5bytes"),
        ("'it''s = 1'=7;8", "[it's = 1] 7 warn=8"),
        ("''''=1", "['] 1"),
        ("'a'=1 'b c'=2", "[a] 1, [b c] 2"),
        ("load average=0.5", "[load average] 0.5"),
        ("a = 5", ""),
        (
            "check_multi::disk::plugins=3",
            "[check_multi::disk::plugins] 3",
        ),
        ("größe=5µs", "[größe] 0.000005seconds"),
        // Units.
        (
            "a=1us b=1ns c=1KB d=1KiB e=1GB",
            "[a] 0.000001seconds, [b] 0.000000001seconds, [c] 1024bytes, [d] 1024bytes, [e] 1073741824bytes",
        ),
        ("t=41.5C fan=900rpm n=3", "[t] 41.5C, [fan] 900rpm, [n] 3"),
        ("a=7%;80;90", "[a] 0.07ratio warn=0.8 crit=0.9"),
        // Numbers.
        (
            "a=0,5s b=1.5e-05s c=2E3 d=.5 e=5. f=+3 g=3e",
            "[a] 0.5seconds, [b] 0.000015seconds, [c] 2000, [d] 0.5, [e] 5, [f] 3, [g] 3e",
        ),
        // Thresholds.
        ("a=5;10:20;5:;;", "[a] 5 warn=20 warn_low=10 crit_low=5"),
        ("a=5;~:20;@5:10", "[a] 5 warn=20"),
        ("a=5;10s;20s;;", "[a] 5 warn=10 crit=20"),
        ("a=5;;;;;;9", "[a] 5"),
        // Without a value.
        ("a=U b=1", "[b] 1"),
        ("a= b=1", "[b] 1"),
        ("a=U;1;2;3;4", ""),
        // The first of a label.
        ("a=1 a=2", "[a] 1"),
        ("  a=1\t\tb=2 ", "[a] 1, [b] 2"),
        ("", ""),
    ] {
        assert_eq!(shown(text), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_performance_data_is_skipped_and_named() {
    for (text, malformed, rest) in [
        ("a=x b=1", "a=x", "[b] 1"),
        ("a=--1 b=1", "a=--1", "[b] 1"),
        ("=5 b=1", "=5", "[b] 1"),
        ("'open=1 b=2", "'open=1", "[b] 2"),
        ("''=5 b=1", "''=5", "[b] 1"),
        ("garbage", "garbage", ""),
        ("1;2;3 b=1", "1;2;3", "[b] 1"),
        ("a=nan b=inf c=1", "a=nan", "[c] 1"),
        ("a=1e999 c=1", "a=1e999", "[c] 1"),
    ] {
        let data = performance::parse(text, false);
        assert_eq!(data.malformed.as_deref(), Some(malformed), "{text:?}");
        assert_eq!(shown(text), rest, "{text:?}");
    }
}

#[test]
fn the_last_item_of_truncated_data_is_left_out() {
    let data = performance::parse("a=1 b=12", true);
    assert_eq!(data.values.len(), 1, "{data:?}");
}

#[test]
fn the_parts_of_the_output_are_those_of_the_guidelines() {
    for (stdout, text, more_lines, data) in [
        ("OK", "OK", 0, ""),
        ("OK - fine | a=1\n", "OK - fine", 0, "a=1"),
        (
            "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/ 15272 MB (77%);\n/boot 68 MB (69%);\n/home 69357 MB (27%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414 \n/var=818MB\n",
            "DISK OK - free space: / 3326 MB (56%);",
            3,
            "/=2643MB;5948;5958;0;5968 /boot=68MB;88;93;0;98 /home=69357MB;253404;253409;0;253414 /var=818MB",
        ),
        ("OK\r\nmore\r\n", "OK", 1, ""),
        ("\n\nOK\n", "OK", 0, ""),
        ("| a=1", "", 0, "a=1"),
        ("OK | a=1 | b=2", "OK", 0, "a=1 | b=2"),
        ("", "", 0, ""),
    ] {
        let expected = PluginOutput {
            text: text.to_owned(),
            more_lines,
            performance: data.to_owned(),
        };
        assert_eq!(PluginOutput::parse(stdout), expected, "{stdout:?}");
    }
}

proptest! {
    /// Whatever a plugin writes, the report is legal.
    #[test]
    fn no_output_breaks_the_parser(text in r#"[ab='";:@|~U%.,0-9eEsBMc \n\t-]{0,60}"#) {
        let output = PluginOutput::parse(&text);
        let data = performance::parse(&output.performance, false);
        let report = data.values.iter().fold(Report::healthy("x"), |report, value| value.add_to(report));
        assert_legal(&report);
    }

    #[test]
    fn any_text_is_parsed_in_time(text in "\\PC*", is_cut in any::<bool>()) {
        let data = performance::parse(&text, is_cut);
        prop_assert!(data.values.iter().all(|value| value.value.is_finite() && !value.label.is_empty()));
    }

    #[test]
    fn a_quoted_label_and_a_number_are_read_back(label in "[\\PC&&\\S]([ -~]{0,20}[\\PC&&\\S])?", value in -1e9..1e9_f64) {
        let text = format!("'{}'={value};1;2 next=1", label.replace('\'', "''"));
        let data = performance::parse(&text, false);
        prop_assert_eq!(&data.malformed, &None);
        prop_assert_eq!(&data.values[0].label, &label);
        prop_assert!((data.values[0].value - value).abs() < 1e-6);
        prop_assert_eq!(&data.values[1].label, "next");
    }
}
