//! The API server's own checks: `/readyz`.

use conductor_net::{
    CheckError, PhaseClock,
    http::{
        ApiRequest, StatusCode,
        header::{self, HeaderValue},
    },
    short,
};

use crate::{
    api::{KubernetesApi, ListError, words},
    object::first_few,
};

/// The results of the checks of an API server.
#[derive(Debug, Default)]
pub(crate) struct ReadyzResult {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
}

impl ReadyzResult {
    /// Asks the API server; `exclude` are names of checks that do not count.
    pub(crate) async fn ask(
        api: &mut KubernetesApi,
        exclude: &[String],
        clock: &mut PhaseClock<'_>,
    ) -> Result<Self, ListError> {
        let mut request = ApiRequest::get("/readyz")
            .header(header::ACCEPT, HeaderValue::from_static("*/*"))
            .query("verbose", "true");
        for name in exclude {
            request = request.query("exclude", name);
        }
        let response = api.ask(request, clock).await?;
        let result = Self::parse(&String::from_utf8_lossy(&response.body));
        match response.status {
            StatusCode::OK if result.passed > 0 && result.failed.is_empty() => Ok(result),
            // A failing server responds with 500 and the same lines.
            _ if !result.failed.is_empty() => Ok(result),
            StatusCode::FORBIDDEN => Err(ListError::Refused(format!(
                "cannot read /readyz: {}; bind the account to the ClusterRole system:public-info-viewer, or set `readyz = false`",
                words(&response)
            ))),
            StatusCode::OK => Err(response
                .unexpected(
                    "there are no checks of an API server, such as `[+]etcd ok`; correct `url`",
                )
                .into()),
            StatusCode::NOT_FOUND => Err(response
                .unexpected("there is no API server of Kubernetes; correct `url`")
                .into()),
            _ => Err(response.unexpected(&words(&response)).into()),
        }
    }

    /// Reads lines such as `[+]ping ok` and `[-]etcd failed: reason withheld`.
    fn parse(text: &str) -> Self {
        let mut result = Self::default();
        for line in text.lines() {
            if line.starts_with("[+]") {
                result.passed += 1;
            } else if let Some(failed) = line.strip_prefix("[-]") {
                let name = failed
                    .split_once(" failed")
                    .map_or(failed, |(name, _)| name);
                result.failed.push(short(name, MAX_NAME));
            }
        }
        result
    }

    /// Returns the fault of a server that is not ready.
    pub(crate) fn fault(&self) -> Option<CheckError> {
        let failed = self.failed.len();
        let all = self.passed + failed;
        (failed > 0).then(|| {
            CheckError::Platform(format!(
                "the API server is not ready: {failed} of its {all} checks fail: {}",
                first_few(&self.failed)
            ))
        })
    }
}

/// Longest name of a check in a message, in characters.
const MAX_NAME: usize = 100;
