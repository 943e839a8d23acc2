//! Settings of OpenID Connect sign-in at the load balancer. They decide the balancer's egress rules, the
//! bundle's listener configuration, and which secret Elastic Beanstalk may read.
//!
//! An Application Load Balancer signs users in before it forwards a request; the web UI is not involved:
//! "Authenticate users using an Application Load Balancer" in the Elastic Load Balancing user guide.

/// Longest session, in seconds: a week, by "AuthenticateOidcConfig" in the same guide's API reference.
pub const LONGEST_SESSION_SECONDS: u32 = 604_800;

/// An identity provider and this application's account there.
///
/// The four addresses are those of the provider's `/.well-known/openid-configuration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// `issuer`
    pub issuer: &'static str,
    /// `authorization_endpoint`: browsers are sent there.
    pub authorization_endpoint: &'static str,
    /// `token_endpoint`: the balancer calls it, over IPv4 and on port 443.
    pub token_endpoint: &'static str,
    /// `userinfo_endpoint`: the balancer calls it, over IPv4 and on port 443.
    pub user_info_endpoint: &'static str,
    /// The application's ID at the provider, where
    /// `https://<the dashboard's name>/oauth2/idpresponse` must be an allowed redirect.
    pub client_id: &'static str,
    /// Location of its secret.
    pub client_secret: Secret,
    /// Requested scopes, separated by spaces, with `openid` among them.
    pub scope: &'static str,
    /// Seconds after which a user must sign in again, 1 to [`LONGEST_SESSION_SECONDS`].
    pub session_seconds: u32,
    /// IPv4 ranges of the provider's token and user-info endpoints: the balancer may reach port 443 there
    /// and nowhere else. A security group accepts no host names; use `0.0.0.0/0` if the provider publishes no
    /// ranges.
    pub provider_cidrs: &'static [&'static str],
}

/// The location of a secret in AWS Secrets Manager, in the account and region of the stack; never the secret
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The secret's name.
    pub name: &'static str,
    /// The key in the secret's JSON.
    pub key: &'static str,
}

impl Oidc {
    /// Problems of the settings, each with the setting's name.
    ///
    /// A value that could be a misplaced secret is not repeated.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (setting, url, by_balancer) in [
            ("issuer", self.issuer, false),
            ("authorization_endpoint", self.authorization_endpoint, false),
            ("token_endpoint", self.token_endpoint, true),
            ("user_info_endpoint", self.user_info_endpoint, true),
        ] {
            problems.extend(url_problem(url, by_balancer).map(|it| format!("`{setting}` {it}")));
        }
        if self.client_id.is_empty() || !self.client_id.bytes().all(|it| it.is_ascii_graphic()) {
            problems.push(format!(
                "`client_id` is `{}`, expected the ID that the provider gave, without spaces",
                self.client_id
            ));
        }
        problems.extend(self.client_secret.problems());
        if !self.scope.split(' ').any(|word| word == "openid") {
            problems.push(format!(
                "`scope` is `{}`, expected words separated by spaces with `openid` among them",
                self.scope
            ));
        }
        if !(1..=LONGEST_SESSION_SECONDS).contains(&self.session_seconds) {
            problems.push(format!(
                "`session_seconds` is {}, expected 1 to {LONGEST_SESSION_SECONDS}",
                self.session_seconds
            ));
        }
        if self.provider_cidrs.is_empty() {
            problems.push(
                "`provider_cidrs` is empty, so the balancer could not ask the provider: give its IPv4 ranges, or 0.0.0.0/0 if it publishes none"
                    .to_owned(),
            );
        }
        let wrong = self
            .provider_cidrs
            .iter()
            .filter(|cidr| !is_ipv4_range(cidr));
        problems.extend(wrong.map(|cidr| {
            format!("`provider_cidrs` has `{cidr}`, expected an IPv4 range such as 192.0.2.0/24: the balancer asks the provider over IPv4")
        }));
        problems
    }
}

impl Secret {
    fn problems(&self) -> Vec<String> {
        let of = |text: &str, others: &str| {
            (1..=512).contains(&text.len())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        let mut problems = Vec::new();
        // "CreateSecret" of the Secrets Manager API reference.
        if !of(self.name, "/_+=.@-") {
            problems.push(
                "`client_secret.name` is no name of a secret in AWS Secrets Manager: 1 to 512 letters, digits and /_+=.@-, not its ARN, and never the secret itself"
                    .to_owned(),
            );
        }
        if !of(self.key, "_.-") {
            problems.push(
                "`client_secret.key` is no key in the secret's JSON: letters, digits and _.-, such as clientSecret"
                    .to_owned(),
            );
        }
        problems
    }
}

/// The problem of a URL; with `by_balancer`, the balancer calls it and supports port 443 only.
fn url_problem(url: &str, by_balancer: bool) -> Option<String> {
    let got = format!("is `{url}`");
    let Some(rest) = url.strip_prefix("https://") else {
        return Some(format!(
            "{got}, expected an address that begins with https://"
        ));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let in_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if host.is_empty() || !host.chars().all(in_host) {
        return Some(format!("{got}, expected the name of a host after https://"));
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"{}\"\\<>`".contains(&byte);
    if !url.bytes().all(plain) {
        return Some(format!("{got}, expected no spaces and no braces"));
    }
    match port {
        Some("443") | None => None,
        Some(port) if by_balancer => Some(format!(
            "{got}, expected port 443: the balancer reaches the provider on no other, and this is port {port}"
        )),
        Some(port) => port
            .parse::<u16>()
            .is_err()
            .then(|| format!("{got}, expected a number after the colon")),
    }
}

fn is_ipv4_range(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<std::net::Ipv4Addr>().is_ok()
            && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Oidc = Oidc {
        issuer: "https://id.example.com/tenant",
        authorization_endpoint: "https://id.example.com/tenant/authorize",
        token_endpoint: "https://id.example.com/tenant/token",
        user_info_endpoint: "https://id.example.com:443/tenant/userinfo",
        client_id: "sensors-dashboard",
        client_secret: Secret {
            name: "sensors/prod/oidc",
            key: "clientSecret",
        },
        scope: "openid email",
        session_seconds: 28_800,
        provider_cidrs: &["192.0.2.0/24"],
    };

    #[test]
    fn good_settings_have_no_problem() {
        assert_eq!(GOOD.problems(), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let secret = |name, key| Secret { name, key };
        #[rustfmt::skip]
        let cases = [
            (Oidc { issuer: "http://id.example.com", ..GOOD }, "`issuer` is `http://id.example.com`, expected an address that begins with https://"),
            (Oidc { issuer: "https://", ..GOOD }, "`issuer` is `https://`, expected the name of a host after https://"),
            (Oidc { authorization_endpoint: "https://id.example.com/a b", ..GOOD }, "`authorization_endpoint` is `https://id.example.com/a b`, expected no spaces and no braces"),
            (Oidc { authorization_endpoint: "https://id.example.com:x/", ..GOOD }, "`authorization_endpoint` is `https://id.example.com:x/`, expected a number after the colon"),
            (Oidc { token_endpoint: "https://id.example.com:8443/t", ..GOOD }, "`token_endpoint` is `https://id.example.com:8443/t`, expected port 443: the balancer reaches the provider on no other, and this is port 8443"),
            (Oidc { user_info_endpoint: "id.example.com", ..GOOD }, "`user_info_endpoint` is `id.example.com`, expected an address that begins with https://"),
            (Oidc { client_id: "", ..GOOD }, "`client_id` is ``, expected the ID that the provider gave, without spaces"),
            (Oidc { client_secret: secret("hunter 2!", "key"), ..GOOD }, "`client_secret.name` is no name of a secret in AWS Secrets Manager: 1 to 512 letters, digits and /_+=.@-, not its ARN, and never the secret itself"),
            (Oidc { client_secret: secret("sensors/oidc", ""), ..GOOD }, "`client_secret.key` is no key in the secret's JSON: letters, digits and _.-, such as clientSecret"),
            (Oidc { scope: "email", ..GOOD }, "`scope` is `email`, expected words separated by spaces with `openid` among them"),
            (Oidc { session_seconds: 0, ..GOOD }, "`session_seconds` is 0, expected 1 to 604800"),
            (Oidc { session_seconds: 604_801, ..GOOD }, "`session_seconds` is 604801, expected 1 to 604800"),
            (Oidc { provider_cidrs: &[], ..GOOD }, "`provider_cidrs` is empty, so the balancer could not ask the provider: give its IPv4 ranges, or 0.0.0.0/0 if it publishes none"),
            (Oidc { provider_cidrs: &["2001:db8::/32"], ..GOOD }, "`provider_cidrs` has `2001:db8::/32`, expected an IPv4 range such as 192.0.2.0/24: the balancer asks the provider over IPv4"),
            (Oidc { provider_cidrs: &["192.0.2.0/33"], ..GOOD }, "`provider_cidrs` has `192.0.2.0/33`, expected an IPv4 range such as 192.0.2.0/24: the balancer asks the provider over IPv4"),
        ];
        for (settings, expected) in cases {
            assert_eq!(settings.problems(), [expected]);
        }
    }
}
