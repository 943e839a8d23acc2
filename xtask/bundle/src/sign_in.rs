//! Sign-in at the balancer: rules of its HTTPS listener, and room for its cookies in nginx.
//!
//! Elastic Beanstalk makes the balancer and has no option for an action that signs people in. What stands
//! under `Resources` of a configuration file it adds to the environment's own CloudFormation template
//! ("Adding and customizing Elastic Beanstalk environment resources"), where the listener is
//! `AWSEBV2LoadBalancerListener443` and the instances' target group `AWSEBV2LoadBalancerTargetGroup`
//! ("Elastic Beanstalk environment resources").
//!
//! Rules are added, and the listener is left as it is: how a list such as its default actions is merged
//! with Beanstalk's own is not documented, and the default action is never reached where a rule takes
//! every path.

use contract::http;
use contract::oidc::{Oidc, Secret};
use serde_json::{Value, json};

/// Bytes of one header line that nginx takes. The balancer's session is in cookies of up to 4 KB, as many
/// as it takes ("Authentication logout and session timeout"); browsers send them in one line, and nginx's
/// own limit is 8 KB.
const HEADER_LINE: &str = "32k";

/// The rules, as a configuration file of Beanstalk in JSON.
pub(crate) fn rules(oidc: &Oidc) -> String {
    // Programs are told that they are not signed in. A redirect to a page of the provider would be no answer
    // to them, and a WebSocket cannot follow it.
    let programs = [http::SOCKET, http::STATE, http::READY];
    let file = json!({
        "Resources": {
            "SignInOfPrograms": rule(oidc, 1, &programs, "deny"),
            "SignIn": rule(oidc, 2, &["/*"], "authenticate"),
        }
    });
    format!("{file:#}\n")
}

fn rule(oidc: &Oidc, priority: u32, paths: &[&str], unauthenticated: &str) -> Value {
    json!({
        "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
        "Properties": {
            "ListenerArn": { "Ref": "AWSEBV2LoadBalancerListener443" },
            "Priority": priority,
            "Conditions": [{
                "Field": "path-pattern",
                "PathPatternConfig": { "Values": paths },
            }],
            "Actions": [
                {
                    "Type": "authenticate-oidc",
                    "Order": 1,
                    "AuthenticateOidcConfig": {
                        "Issuer": oidc.issuer,
                        "AuthorizationEndpoint": oidc.authorization_endpoint,
                        "TokenEndpoint": oidc.token_endpoint,
                        "UserInfoEndpoint": oidc.user_info_endpoint,
                        "ClientId": oidc.client_id,
                        "ClientSecret": reference(&oidc.client_secret),
                        "Scope": oidc.scope,
                        "SessionTimeout": oidc.session_seconds,
                        "OnUnauthenticatedRequest": unauthenticated,
                    },
                },
                {
                    "Type": "forward",
                    "Order": 2,
                    "TargetGroupArn": { "Ref": "AWSEBV2LoadBalancerTargetGroup" },
                },
            ],
        },
    })
}

/// The dynamic reference that CloudFormation replaces by the text as it sets the property.
///
/// Of the three kinds Secrets Manager's is the one that is permitted here: `ssm` is for plain text, and
/// `ssm-secure` only for the properties that "Get a secure string value from Systems Manager Parameter
/// Store" of the CloudFormation user guide lists, of which this is none.
fn reference(secret: &Secret) -> String {
    let Secret { name, key } = secret;
    format!("{{{{resolve:secretsmanager:{name}:SecretString:{key}}}}}")
}

/// Room for the cookies, inside `http { }`.
pub(crate) fn headers() -> String {
    format!(
        "# The balancer's session comes in cookies that are longer than nginx takes by itself.\nlarge_client_header_buffers 4 {HEADER_LINE};\n"
    )
}
