//! PgBouncer in front of a server, which gives each transaction another connection.

use std::{fs, process::Command};

use conductor_real_servers::{RealServer, drop_root, free_port, program};

use super::{server::PostgresServer, *};

#[test]
fn a_database_is_checked_through_pgbouncer() {
    let Some(pgbouncer) = program("pgbouncer", "pgbouncer") else {
        return;
    };
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    server.run("CREATE ROLE conductor LOGIN PASSWORD 'correct horse'");
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = format!(
        "[databases]\n\
         postgres = host=127.0.0.1 port={}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = plain\n\
         auth_file = {}\n\
         admin_users = conductor\n\
         pool_mode = transaction\n",
        server.port(),
        folder.path().join("users").display(),
    );
    fs::write(folder.path().join("settings.ini"), settings).unwrap();
    fs::write(
        folder.path().join("users"),
        "\"conductor\" \"correct horse\"\n",
    )
    .unwrap();
    let mut command = Command::new(pgbouncer);
    command.arg(folder.path().join("settings.ini"));
    drop_root(&mut command, folder.path());
    let account = json!({
        "address": format!("127.0.0.1:{port}"), "user": "conductor", "password": "correct horse",
    });
    let _pooler = RealServer::start(command, || {
        !check(&account).message().contains("cannot connect")
    });
    let query = json!({"role": "primary", "query": {"sql": "SELECT 1", "equals": 1}});
    for _ in 0..3 {
        let report = check(&with(&account, query.clone()));
        assert_report(&report, Status::Healthy, "primary");
    }
    let report = check(&with(&account, json!({"password": "wrong horse"})));
    assert_report(&report, Status::Unhealthy, "cannot log in: ");
    // Its console is no database: it runs commands such as SHOW POOLS alone.
    let report = check(&with(&account, json!({"database": "pgbouncer"})));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}
