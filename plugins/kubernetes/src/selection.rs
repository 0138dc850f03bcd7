//! The objects that a platform consists of.

use conductor_net::{CheckError, LimitVerdict, PhaseClock};
use conductor_plugin_api::Status;
use serde::de::DeserializeOwned;

use crate::{
    api::{KubernetesApi, ListError, ListQuery},
    jobs::Job,
    nodes::Node,
    pods::{ListedPod, Pod, PodRules},
    resource::Resource,
    workloads::{ListedWorkload, Workload},
};

/// Resources, namespaces and label selectors of a config.
pub(crate) struct Selection {
    pub(crate) resources: Vec<Resource>,
    /// None for all of them.
    pub(crate) namespaces: Vec<String>,
    pub(crate) selector: Option<String>,
    pub(crate) node_selector: Option<String>,
}

/// The objects of a cluster; `None` for a resource that is not checked or cannot be listed.
#[derive(Default)]
pub(crate) struct ClusterState {
    pub(crate) nodes: Option<Vec<Node>>,
    /// The kinds that were listed, and all of their objects.
    pub(crate) workload_kinds: Vec<Resource>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) jobs: Option<Vec<Job>>,
    pub(crate) pods: Option<Vec<Pod>>,
    /// The number of objects in each of the namespaces.
    found: Vec<usize>,
    /// The reasons why resources cannot be listed.
    pub(crate) refused: Vec<String>,
}

impl Selection {
    /// Lists each resource. One that is refused does not prevent the others.
    pub(crate) async fn ask(
        &self,
        api: &mut KubernetesApi,
        rules: &PodRules,
        clock: &mut PhaseClock<'_>,
    ) -> Result<ClusterState, CheckError> {
        let mut state = ClusterState {
            found: vec![0; self.namespaces.len().max(1)],
            ..ClusterState::default()
        };
        for resource in &self.resources {
            match self.list(*resource, api, rules, &mut state, clock).await {
                Ok(()) => {}
                Err(ListError::Refused(why)) => state.refused.push(why),
                Err(ListError::Check(error)) => return Err(error),
            }
        }
        Ok(state)
    }

    async fn list(
        &self,
        resource: Resource,
        api: &mut KubernetesApi,
        rules: &PodRules,
        state: &mut ClusterState,
        clock: &mut PhaseClock<'_>,
    ) -> Result<(), ListError> {
        match resource {
            Resource::Nodes => {
                let query = ListQuery {
                    resource,
                    namespace: None,
                    selector: self.node_selector.as_deref(),
                    selector_key: "node_selector",
                };
                state.nodes = Some(api.list(&query, clock).await?);
            }
            Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets => {
                let found = self.objects(resource, api, state, clock).await?;
                let found = found.into_iter();
                let found = found.map(|listed: ListedWorkload| listed.of_kind(resource));
                state.workloads.extend(found);
                state.workload_kinds.push(resource);
            }
            Resource::Jobs => state.jobs = Some(self.objects(resource, api, state, clock).await?),
            Resource::Pods => {
                let listed: Vec<ListedPod> = self.objects(resource, api, state, clock).await?;
                let now = api.now();
                let pods = listed.iter().map(|pod| pod.examine(rules, now));
                state.pods = Some(pods.collect());
            }
        }
        Ok(())
    }

    /// Returns the objects of all namespaces of the config.
    async fn objects<T: DeserializeOwned>(
        &self,
        resource: Resource,
        api: &mut KubernetesApi,
        state: &mut ClusterState,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<T>, ListError> {
        let mut objects = Vec::new();
        for (nth, namespace) in self.scopes().enumerate() {
            let query = ListQuery {
                resource,
                namespace,
                selector: self.selector.as_deref(),
                selector_key: "selector",
            };
            let found = api.list(&query, clock).await?;
            state.found[nth] += found.len();
            objects.extend(found);
        }
        Ok(objects)
    }

    /// Returns the namespaces of the config, or `None` alone for all of them.
    fn scopes(&self) -> impl Iterator<Item = Option<&str>> {
        let all = self.namespaces.is_empty().then_some(None);
        let named = self.namespaces.iter().map(|name| Some(name.as_str()));
        all.into_iter().chain(named)
    }

    /// Judges whether each namespace has objects: a wrong name or selector must not look healthy. Jobs alone may be gone.
    pub(crate) fn judge(&self, state: &ClusterState, verdict: &mut LimitVerdict) {
        let mut lasting = self.resources.iter();
        let is_lasting =
            |resource: &Resource| !matches!(resource, Resource::Nodes | Resource::Jobs);
        if !state.refused.is_empty() || !lasting.any(is_lasting) {
            return;
        }
        for (namespace, found) in self.scopes().zip(&state.found) {
            if *found > 0 {
                continue;
            }
            let place = match namespace {
                Some(namespace) => format!("the namespace {namespace}"),
                None => "the cluster".to_owned(),
            };
            let which = match &self.selector {
                Some(selector) => format!(" with the labels {selector}"),
                None => String::new(),
            };
            verdict.add(
                Status::Unhealthy,
                format!("there are no workloads or pods{which} in {place}, expected at least one"),
            );
        }
    }
}
