//! The resources of the API that can be checked.

use conductor_plugin_api::schemars;
use serde::Deserialize;

/// A resource whose objects are listed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resource {
    /// Nodes.
    Nodes,
    /// Deployments.
    Deployments,
    /// StatefulSets.
    StatefulSets,
    /// DaemonSets.
    DaemonSets,
    /// Jobs.
    Jobs,
    /// Pods.
    Pods,
}

impl Resource {
    pub(crate) const ALL: [Self; 6] = [
        Self::Nodes,
        Self::Deployments,
        Self::StatefulSets,
        Self::DaemonSets,
        Self::Jobs,
        Self::Pods,
    ];

    /// Returns the name in paths and in RBAC rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Deployments => "deployments",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::Jobs => "jobs",
            Self::Pods => "pods",
        }
    }

    /// Returns the kind of one object.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::Deployments => "Deployment",
            Self::StatefulSets => "StatefulSet",
            Self::DaemonSets => "DaemonSet",
            Self::Jobs => "Job",
            Self::Pods => "Pod",
        }
    }

    /// Returns the API group; the core group is empty.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Nodes | Self::Pods => "",
            Self::Deployments | Self::StatefulSets | Self::DaemonSets => "apps",
            Self::Jobs => "batch",
        }
    }

    /// Returns the path of the list.
    pub(crate) fn path(self, namespace: Option<&str>) -> String {
        let base = match self.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        match namespace {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{}", self.name()),
            None => format!("{base}/{}", self.name()),
        }
    }
}
