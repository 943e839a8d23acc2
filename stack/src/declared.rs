//! What is called that the templates do not say: by devices, and because of the bundle.

use cfn::evaluate::Keys;
use cfn::integration::{Declared, DeviceCall, RoleCall};

use crate::Config;

/// Of the main stack of a configuration.
pub fn main(config: &Config) -> Declared {
    let device = |action: &str, resource: String| DeviceCall {
        action: action.to_owned(),
        resource,
    };
    // The listener rules are in the bundle; their reference to the client secret is resolved anew with
    // Beanstalk's role whenever Beanstalk updates the environment by itself.
    let client_secret = config.dashboard.sign_in.as_ref().map(|oidc| RoleCall {
        from: "DashboardEnvironment".to_owned(),
        because: "the sign-in's client secret".to_owned(),
        role: "BeanstalkRole".to_owned(),
        service: "elasticbeanstalk.amazonaws.com".to_owned(),
        trust: Keys::new().with("sts:ExternalId", "elasticbeanstalk"),
        action: "secretsmanager:GetSecretValue".to_owned(),
        resource: format!("secret:{}-a1b2c3", oidc.client_secret.name),
    });
    Declared {
        roles: client_secret.into_iter().collect(),
        devices: vec![
            device("iot:Connect", "client/{thing}".to_owned()),
            device(
                "iot:Publish",
                format!("topic/{}/{{thing}}", contract::topic::BARE),
            ),
        ],
    }
}
