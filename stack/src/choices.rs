//! Configurations that no stage takes: `prod` with a key of our own, with sign-in at the balancer, and with
//! a budget.
//!
//! Tests and outside judges look at what they emit, so that whoever chooses them gets what was looked at.

use contract::oidc::{Oidc, Secret};

use crate::config::{Budget, Encryption};
use crate::{Config, Stage};

/// An identity provider that does not exist.
pub const PROVIDER: Oidc = Oidc {
    issuer: "https://id.example.com/tenant",
    authorization_endpoint: "https://id.example.com/tenant/authorize",
    token_endpoint: "https://id.example.com/tenant/token",
    user_info_endpoint: "https://id.example.com/tenant/userinfo",
    client_id: "sensors-dashboard",
    client_secret: Secret {
        name: "sensors/prod/oidc",
        key: "clientSecret",
    },
    scope: "openid email",
    session_seconds: 28_800,
    provider_cidrs: &["192.0.2.0/24", "198.51.100.0/24"],
};

/// Each with a name for files and messages.
pub fn all() -> [(&'static str, Config); 3] {
    [
        ("own-key", own_key()),
        ("sign-in", signing_in()),
        ("budget", with_budget()),
    ]
}

/// `prod`, with a key of our own.
pub fn own_key() -> Config {
    Config {
        encryption: Encryption::OwnKey,
        ..Stage::Prod.config()
    }
}

/// `prod`, with a monthly budget.
pub fn with_budget() -> Config {
    Config {
        budget: Some(Budget { monthly_usd: 500 }),
        ..Stage::Prod.config()
    }
}

/// `prod`, signing visitors in at the balancer.
pub fn signing_in() -> Config {
    let mut config = Stage::Prod.config();
    config.dashboard.sign_in = Some(PROVIDER);
    config
}
