//! Which requests degrade the health of a Beanstalk environment: the document of enhanced health rules.
//!
//! <https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/health-enhanced-rules.html>

use serde::Serialize;

/// The document, in the one version that there is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigDocument {
    rules: Rules,
    version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rules {
    environment: Environment,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    application: Application,
    #[serde(rename = "ELB")]
    balancer: Balancer,
}

#[derive(Serialize)]
struct Application {
    /// Answers 4xx of the instances.
    #[serde(rename = "ApplicationRequests4xx")]
    requests_4xx: Rule,
}

#[derive(Serialize)]
struct Balancer {
    /// Answers 4xx of the balancer, those of the instances among them.
    #[serde(rename = "ELBRequests4xx")]
    requests_4xx: Rule,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    enabled: bool,
}

/// The value of the option `ConfigDocument`: answers 4xx leave the environment's health as it is.
///
/// The web UI answers 4xx to scanners, to too many requests, and to browsers that are not signed in. None
/// of those is a fault of an instance, and a deployment must not be rolled back because of them.
pub(crate) fn without_4xx() -> String {
    let off = || Rule { enabled: false };
    let document = ConfigDocument {
        rules: Rules {
            environment: Environment {
                application: Application {
                    requests_4xx: off(),
                },
                balancer: Balancer {
                    requests_4xx: off(),
                },
            },
        },
        version: 1,
    };
    serde_json::to_string(&document).expect("text and flags are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_the_one_of_the_documentation() {
        assert_eq!(
            without_4xx(),
            r#"{"Rules":{"Environment":{"Application":{"ApplicationRequests4xx":{"Enabled":false}},"ELB":{"ELBRequests4xx":{"Enabled":false}}}},"Version":1}"#
        );
    }
}
