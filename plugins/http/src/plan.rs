//! Turns a config into a plan that can work, or into all the reasons why it cannot.

mod conditions;
mod request;

use conductor_net::{TlsClient, http::TargetUrl};
use conductor_plugin_api::Failure;
use hyper::header::HeaderMap;

use crate::{
    conditions::ResponseConditions,
    config::{HttpConfig, HttpVersion, IpVersion},
    oauth2::TokenSource,
    proxy::ProxyPlan,
};

/// A request and its expected response: a valid config.
pub(crate) struct RequestPlan {
    pub(crate) target: TargetUrl,
    pub(crate) method: hyper::Method,
    pub(crate) body: Option<String>,
    /// With those of authentication.
    pub(crate) headers: HeaderMap,
    pub(crate) token: Option<TokenSource>,
    pub(crate) tls: TlsClient,
    pub(crate) proxy: Option<ProxyPlan>,
    pub(crate) ip_version: Option<IpVersion>,
    pub(crate) http_version: Option<HttpVersion>,
    pub(crate) compression: bool,
    pub(crate) max_redirects: u8,
    pub(crate) conditions: ResponseConditions,
}

impl TryFrom<HttpConfig> for RequestPlan {
    type Error = Failure;

    /// Refuses a config and reports every wrong key, not only the first.
    fn try_from(mut config: HttpConfig) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let target = TargetUrl::of_key("url", &config.url, &mut faults);
        let headers = request::headers(&config, &mut faults);
        let token = (config.oauth2.take()).and_then(|oauth2| TokenSource::new(oauth2, &mut faults));
        let tls = request::tls(&config, target.as_ref(), &mut faults);
        let conditions = conditions::conditions(&config, &mut faults);
        faults.extend(request::body_fault(&config));
        let proxy = (config.proxy.as_deref())
            .and_then(|proxy| ProxyPlan::new(proxy, config.proxy_auth.as_ref(), &mut faults));
        match (target, tls) {
            (Some(target), Some(tls)) if faults.is_empty() => Ok(Self {
                target,
                method: config.method.into(),
                body: config.body,
                headers,
                token,
                tls,
                proxy,
                ip_version: config.ip_version,
                http_version: config.http_version,
                compression: config.compression,
                max_redirects: config.follow_redirects.limit(),
                conditions,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}
