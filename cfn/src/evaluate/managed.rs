//! Documents of AWS-managed policies that own statements cannot replace.
//!
//! The JSON files in this folder are AWS's documents, taken from moto 5.2.5:
//! `AWSElasticBeanstalkEnhancedHealth` v4 and `AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy` v12
//! (February 2026). AWS can change them at any time. The permissions for Beanstalk's managed updates are
//! published only as this policy.

use serde_json::Value as Json;

use super::ManagedPolicies;

const DOCUMENTS: [(&str, &str); 2] = [
    (
        "service-role/AWSElasticBeanstalkEnhancedHealth",
        include_str!("managed/AWSElasticBeanstalkEnhancedHealth.json"),
    ),
    (
        "AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy",
        include_str!("managed/AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy.json"),
    ),
];

/// The documents by ARN in a partition (`aws` for most accounts).
pub fn known_policies(partition: &str) -> ManagedPolicies {
    let parse = |(name, text): (&str, &str)| {
        let document: Json = serde_json::from_str(text).ok()?;
        Some((format!("arn:{partition}:iam::aws:policy/{name}"), document))
    };
    DOCUMENTS.into_iter().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Policy, PolicyKind};

    #[test]
    fn every_known_policy_is_understood() {
        let known = known_policies("aws");
        assert_eq!(known.len(), DOCUMENTS.len());
        for (arn, document) in known {
            let policy = Policy::parse(PolicyKind::Identity, "Role", &arn, &document);
            policy.unwrap_or_else(|problems| panic!("{problems:#?}"));
        }
    }
}
