//! Inputs found by fuzzing, over the same routes.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

#[test]
fn whatever_fuzzing_came_upon_is_answered_or_cut_off() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/http");
    let host = Host::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        // The first byte determines how the fuzz target splits the rest.
        let sent = bytes.get(1..).unwrap_or_default();
        let mut state = host.state();
        state.control = Some(control::reloading(|| Ok(())));
        let answer = runtime.block_on(async {
            let (mut client, server) = duplex(1 << 20);
            let serving = tokio::spawn(serve_stream(
                state,
                ServerLimits::default(),
                ServerSecurity::default(),
                server,
            ));
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            serving.await.unwrap();
            answer
        });
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{sent:?}"
        );
        seen += 1;
    }
    assert!(seen > 10, "the corpus is not where it was");
}
