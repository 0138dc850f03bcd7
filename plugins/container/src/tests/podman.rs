//! Podman of Debian, with an image of one program that waits.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use conductor_real_servers::{RealServer, program, skip};

use super::*;

/// Waits, or exits with the code that is its argument.
const PROGRAM: &str = "#include <unistd.h>\nint main(int c, char **v) { if (c > 1) return v[1][0] - '0'; for (;;) pause(); }\n";

/// An engine with its own storage, whose containers are removed when it is dropped.
struct Podman {
    program: PathBuf,
    folder: TempDir,
    server: Option<RealServer>,
}

impl Podman {
    fn start() -> Option<Self> {
        let podman = program("podman", "podman")?;
        // Unlike crun, it runs in cgroups of version 1.
        program("runc", "runc")?;
        let mut podman = Self {
            program: podman,
            folder: tempfile::tempdir().unwrap(),
            server: None,
        };
        let socket = podman.socket();
        let mut command = podman.command();
        command.args([
            "system",
            "service",
            "--time=0",
            &format!("unix://{}", socket.display()),
        ]);
        podman.server = Some(RealServer::start(command, || {
            UnixStream::connect(&socket).is_ok()
        }));
        podman.import();
        Some(podman)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let of = |name: &str| self.folder.path().join(name);
        command
            .arg("--root")
            .arg(of("root"))
            .arg("--runroot")
            .arg(of("run"));
        command.args([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
        ]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Makes the image `localhost/waiting:1`.
    fn import(&self) {
        let image = self.folder.path().join("image");
        fs::create_dir(&image).unwrap();
        let mut compiler = Command::new("cc");
        compiler
            .args(["-static", "-x", "c", "-", "-o", "waiting"])
            .current_dir(&image);
        let mut compiler = compiler.stdin(Stdio::piped()).spawn().unwrap();
        compiler
            .stdin
            .take()
            .unwrap()
            .write_all(PROGRAM.as_bytes())
            .unwrap();
        assert!(compiler.wait().unwrap().success());
        let file = self.folder.path().join("image.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&image)
            .arg("-cf")
            .arg(&file)
            .arg(".")
            .status();
        assert!(packed.unwrap().success());
        let file = file.to_str().unwrap();
        let imported = self.run(&[
            "import",
            "--change",
            "CMD [\"/waiting\"]",
            file,
            "localhost/waiting:1",
        ]);
        assert!(imported.status.success(), "{imported:?}");
    }

    /// Starts a container; returns what podman says if this machine cannot run one.
    fn start_container(
        &self,
        name: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Result<(), String> {
        let usual = [
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "--ulimit",
            "nofile=1000:1000",
            "--ulimit",
            "nproc=1000:1000",
        ];
        let all = [&usual[..], options, &["localhost/waiting:1"], arguments].concat();
        let started = self.run(&all);
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        if started.status.success() {
            Ok(())
        } else {
            Err(said)
        }
    }

    fn check(&self, keys: Value) -> Report {
        let mut config = json!({"url": format!("unix:{}", self.socket().display())});
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        check(&config)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        self.server = None;
        // Its storage is mounted on itself.
        let storage = self.folder.path().join("root/vfs");
        let _ = Command::new("umount")
            .arg(&storage)
            .stderr(Stdio::null())
            .status();
        let overlay = self.folder.path().join("root/overlay");
        let _ = Command::new("umount")
            .arg(&overlay)
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn containers_of_podman_are_checked() {
    let Some(podman) = Podman::start() else {
        return;
    };
    let report = podman.check(json!({"containers": ["web"]}));
    assert_report(&report, Status::Unhealthy, "there is no container web");

    let health = |code: &str| format!("[\"/waiting\", \"{code}\"]");
    let options = |code: &str| {
        [
            "--health-interval".to_owned(),
            "disable".to_owned(),
            "--health-retries=1".to_owned(),
            format!("--health-cmd={}", health(code)),
            "--label=app=shop".to_owned(),
        ]
    };
    for (name, code) in [("web", "0"), ("sick", "1")] {
        let options = options(code);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        if let Err(said) = podman.start_container(name, &options, &[]) {
            skip(&format!(
                "podman cannot run a container on this machine: {said}"
            ));
            return;
        }
    }
    podman
        .start_container("done", &[], &["/waiting", "3"])
        .unwrap();
    let report = podman.check(json!({"containers": ["web"], "image": "localhost/waiting:*"}));
    assert_report(&report, Status::Degraded, "web is starting");
    for name in ["web", "sick"] {
        podman.run(&["healthcheck", "run", name]);
    }
    let report = podman.check(json!({"containers": ["web"], "image": "localhost/waiting:*"}));
    assert_report(
        &report,
        Status::Healthy,
        "1 containers, of which 1 are running",
    );
    assert_eq!(report.value(&HEALTHY, ["web"]), Some(1.0));
    let now = engine::unix_time().unwrap();
    let start = report.value(&START, ["web"]).unwrap();
    assert!((0.0..600.0).contains(&(now - start)), "{start} of {now}");
    let report = podman.check(json!({"labels": {"app": "shop"}}));
    assert_report(&report, Status::Unhealthy, "sick fails its health check");
    assert_eq!(report.value(&CONTAINERS, []), Some(2.0));
    podman.run(&["wait", "done"]);
    let report = podman.check(json!({"containers": ["done"], "states": ["exited"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "done is exited with code 3, expected 0",
    );
    podman.run(&["kill", "web"]);
    podman.run(&["wait", "web"]);
    let report = podman.check(json!({"containers": ["web"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "web is exited with code 137, expected running",
    );
}
