//! Heartbeats are admitted by token and pace, and recorded one after the other.

use std::path::Path;

use conductor_types::requests::RunDuration;

use super::*;

const TOKEN: &str = "0123456789abcdef";

fn config(platforms: &str) -> ConductorConfig {
    ConductorConfig::parse(platforms.to_owned(), "conductor.toml", Path::new("/")).unwrap()
}

fn backup(token: &str) -> ConductorConfig {
    config(&format!(
        "[platform.backup]\nplugin = \"heartbeat\"\nheartbeat = {{ token = \"{token}\" }}\n[platform.disk]\nplugin = \"disk\"\n"
    ))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A host that accepts heartbeats for `backup` since second 100.
fn host() -> (ProbeStateFolder, Heartbeats) {
    let states = ProbeStateFolder::in_memory();
    let heartbeats = Heartbeats::new(states.clone());
    heartbeats.follow(&backup(TOKEN), at(100));
    (states, heartbeats)
}

fn record(states: &ProbeStateFolder) -> HeartbeatRecord {
    let state = states.of_plugin("heartbeat").load("backup");
    serde_json::from_slice(&state).unwrap()
}

fn send(heartbeats: &Heartbeats, second: u64, heartbeat: Heartbeat) {
    heartbeats.record("backup", heartbeat, at(second)).unwrap();
}

fn exit(code: i64) -> Heartbeat {
    Heartbeat {
        exit_code: Some(code),
        ..Heartbeat::default()
    }
}

fn start() -> Heartbeat {
    Heartbeat {
        start: true,
        ..Heartbeat::default()
    }
}

#[test]
fn a_token_opens_its_own_platform_alone() {
    let (_, heartbeats) = host();
    let admit = |platform: &str, token: &str| heartbeats.admit(platform, token, Duration::ZERO);
    assert_eq!(admit("backup", TOKEN), Ok(()));
    for wrong in [
        "",
        "0123456789abcde",
        "0123456789abcdeF",
        "0123456789abcdef0",
    ] {
        assert_eq!(admit("backup", wrong), Err(HeartbeatRefusal::WrongToken));
    }
    assert_eq!(admit("disk", TOKEN), Err(HeartbeatRefusal::Unknown));
    assert_eq!(admit("nobody", TOKEN), Err(HeartbeatRefusal::Unknown));
    let new = "fedcba9876543210";
    heartbeats.follow(&backup(new), at(101));
    assert_eq!(admit("backup", TOKEN), Err(HeartbeatRefusal::WrongToken));
    assert_eq!(admit("backup", new), Ok(()));
    heartbeats.follow(&config("[platform.disk]\nplugin = \"disk\"\n"), at(102));
    assert_eq!(admit("backup", new), Err(HeartbeatRefusal::Unknown));
}

#[test]
fn a_platform_takes_a_burst_and_then_one_each_second_also_across_a_reload() {
    let (_, heartbeats) = host();
    let admitted = |millis: u64| {
        let now = Duration::from_millis(millis);
        let mut all = (0..100).map(|_| heartbeats.admit("backup", TOKEN, now));
        all.position(|admitted| admitted == Err(HeartbeatRefusal::TooMany))
    };
    assert_eq!(admitted(0), Some(10));
    heartbeats.follow(&backup(TOKEN), at(101));
    assert_eq!(admitted(999), Some(0));
    assert_eq!(admitted(1000), Some(1));
    assert_eq!(admitted(3500), Some(2));
    assert_eq!(admitted(60_000), Some(10));
    // A client without the token takes none of them.
    let later = Duration::from_secs(120);
    for _ in 0..100 {
        let _ = heartbeats.admit("backup", "wrong", later);
    }
    assert_eq!(admitted(120_000), Some(10));
}

#[test]
fn runs_are_recorded_with_their_measured_or_given_duration() {
    let (states, heartbeats) = host();
    let empty = record(&states);
    assert_eq!((empty.since, empty.last.is_some()), (100_000, false));
    send(&heartbeats, 110, start());
    assert_eq!(record(&states).started, Some(110_000));
    send(&heartbeats, 130, exit(0));
    let last = LastRun {
        at: 130_000,
        success: true,
        exit_code: Some(0),
        duration: Some(20.0),
        message: String::new(),
    };
    let ended = HeartbeatRecord {
        since: 100_000,
        started: None,
        last: Some(last),
        last_success: Some(130_000),
    };
    assert_eq!(record(&states), ended);
    send(&heartbeats, 140, start());
    let failed = Heartbeat {
        success: Some(false),
        duration: Some(RunDuration::Text("1m 5s".to_owned())),
        message: Some(format!("  {}\n", "ä".repeat(2000))),
        ..Heartbeat::default()
    };
    send(&heartbeats, 150, failed);
    let failed = record(&states);
    assert_eq!(failed.last_success, Some(130_000));
    let run = failed.last.unwrap();
    assert_eq!((run.success, run.exit_code), (false, None));
    assert_eq!((run.duration, run.message), (Some(65.0), "ä".repeat(1000)));
    // A record continues with the next config, and with the next host.
    heartbeats.follow(&backup(TOKEN), at(200));
    assert_eq!(record(&states).since, 100_000);
}

#[test]
fn a_clock_that_was_set_back_measures_no_negative_duration() {
    let (states, heartbeats) = host();
    send(&heartbeats, 200, start());
    send(&heartbeats, 150, exit(0));
    assert_eq!(record(&states).last.unwrap().duration, Some(0.0));
}

#[test]
fn fields_that_contradict_each_other_are_refused_and_record_nothing() {
    let (states, heartbeats) = host();
    let before = record(&states);
    let refused = |heartbeat: Heartbeat| heartbeats.record("backup", heartbeat, at(300));
    for heartbeat in [
        Heartbeat {
            start: true,
            ..exit(0)
        },
        Heartbeat {
            start: true,
            message: Some(String::new()),
            ..Heartbeat::default()
        },
    ] {
        assert_eq!(refused(heartbeat), Err(InvalidHeartbeat::StartWithResult));
    }
    for (success, code) in [(true, 1), (false, 0)] {
        let heartbeat = Heartbeat {
            success: Some(success),
            ..exit(code)
        };
        assert_eq!(refused(heartbeat), Err(InvalidHeartbeat::Contradiction));
    }
    let durations = ["", "soon", "-1", "NaN", "1e300", "1 parsec"];
    let texts = durations.map(|text| RunDuration::Text(text.to_owned()));
    for duration in texts.into_iter().chain([RunDuration::Seconds(-1.0)]) {
        let heartbeat = Heartbeat {
            duration: Some(duration.clone()),
            ..exit(0)
        };
        let wanted = Err(InvalidHeartbeat::Duration);
        assert_eq!(refused(heartbeat), wanted, "{duration:?}");
    }
    assert_eq!(record(&states), before);
}

#[test]
fn the_host_alone_writes_the_state_and_begins_one_that_is_damaged_again() {
    let (states, heartbeats) = host();
    send(&heartbeats, 110, exit(3));
    let (of_plugin, before) = (states.of_plugin("heartbeat"), record(&states));
    assert!(of_plugin.is_written_by_host("backup"));
    of_plugin.store("backup", b"a plugin's");
    assert_eq!(record(&states), before);
    // As a plugin could have stored it before the platform accepted heartbeats.
    heartbeats.follow(&config("[platform.disk]\nplugin = \"disk\"\n"), at(120));
    assert!(!of_plugin.is_written_by_host("backup"));
    of_plugin.store("backup", b"a plugin's");
    heartbeats.follow(&backup(TOKEN), at(130));
    assert_eq!(record(&states).since, 130_000);
}
