//! `deploy --role-policy`: what the principal that deploys and destroys must be allowed to do.
//!
//! Where the account is bootstrapped that is little: CloudFormation acts by the service role. Elsewhere it
//! acts with the caller's rights, and these equal administration. Both policies are computed in
//! [`stack::bootstrap`]; a test here holds this program's calls against them.

use std::time::Duration;

use stack::Stage;
use stack::bootstrap::{Names, Permissions, documents};

use crate::aws::{Cloud, Identity};
use crate::bootstrap::{self, Bootstrap};

/// Characters of a managed policy without white space, by "IAM and AWS STS quotas".
const LONGEST: usize = 6_144;

/// What is known of the account.
struct Account {
    names: Names,
    bootstrap: Option<Bootstrap>,
}

/// Prints the policies of a stage, and on standard error what they amount to.
pub(crate) async fn print(stage: Stage) -> anyhow::Result<()> {
    let account = match look().await {
        Ok(account) => account,
        Err(error) => {
            eprintln!(
                "cannot look whether the account is bootstrapped, so this is the policy without ({error:#})"
            );
            Account {
                names: names(None, None),
                bootstrap: None,
            }
        }
    };
    let permissions = Permissions::of(&[stage]);
    let rules = match &account.bootstrap {
        Some(bootstrap) => {
            eprintln!(
                "the account is bootstrapped: CloudFormation acts by {}, and this is all that a deployer needs beside it",
                bootstrap.service_role
            );
            permissions.deployer()
        }
        None => {
            eprintln!(
                "without bootstrap CloudFormation acts with the deployer's rights. This policy equals administration: it makes roles with any permission and hands them to services\nfix: `cargo xtask bootstrap`, after which a small policy is enough"
            );
            permissions.unbound()
        }
    };
    let policies = documents(&rules, &account.names);
    if policies.len() > 1 {
        eprintln!(
            "{} policies, because a managed policy has at most {LONGEST} characters: attach all of them",
            policies.len()
        );
    }
    for policy in policies {
        println!("{policy:#}");
    }
    Ok(())
}

async fn look() -> anyhow::Result<Account> {
    let cloud = Cloud::connect(Duration::from_secs(1)).await?;
    let (identity, bootstrap) = tokio::try_join!(cloud.identity(), async {
        anyhow::Ok(bootstrap::find(&cloud).await?)
    })?;
    Ok(Account {
        names: names(Some((&cloud, &identity)), bootstrap.as_ref()),
        bootstrap,
    })
}

fn names(known: Option<(&Cloud, &Identity)>, bootstrap: Option<&Bootstrap>) -> Names {
    let partition = known.and_then(|(_, identity)| identity.arn.split(':').nth(1));
    Names {
        partition: partition.unwrap_or("aws").to_owned(),
        region: known.map_or("*", |(cloud, _)| &cloud.region).to_owned(),
        account: known
            .map_or("*", |(_, identity)| &identity.account)
            .to_owned(),
        boundary: bootstrap.map_or_else(String::new, |it| it.boundary.clone()),
        service_role: bootstrap.map_or_else(String::new, |it| it.service_role.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Clients in the source, and the prefix of their actions.
    const CLIENTS: [(&str, &str); 7] = [
        ("beanstalk", "elasticbeanstalk"),
        ("cfn", "cloudformation"),
        ("lambda", "lambda"),
        ("logs", "logs"),
        ("quotas", "servicequotas"),
        ("s3", "s3"),
        ("sts", "sts"),
    ];

    /// Calls of S3 whose actions have other names: "Actions, resources, and condition keys for Amazon S3".
    const S3: [(&str, &[&str]); 12] = [
        ("abort_multipart_upload", &["s3:AbortMultipartUpload"]),
        ("complete_multipart_upload", &["s3:PutObject"]),
        ("create_multipart_upload", &["s3:PutObject"]),
        (
            "delete_objects",
            &["s3:DeleteObject", "s3:DeleteObjectVersion"],
        ),
        ("head_bucket", &["s3:ListBucket"]),
        ("head_object", &["s3:GetObject"]),
        ("list_buckets", &["s3:ListAllMyBuckets"]),
        ("list_multipart_uploads", &["s3:ListBucketMultipartUploads"]),
        ("list_object_versions", &["s3:ListBucketVersions"]),
        ("list_objects_v2", &["s3:ListBucket"]),
        ("upload_part", &["s3:PutObject"]),
        ("put_object", &["s3:PutObject"]),
    ];

    /// Calls to IoT, which have paths instead of names, by what stands in their source.
    const PATHS: [(&str, &str, &str); 5] = [
        ("aws/iot.rs", "/endpoint?", "iot:DescribeEndpoint"),
        ("aws/iot.rs", "\"GET\",rule(", "iot:GetTopicRule"),
        ("aws/iot.rs", "\"/enable\"", "iot:EnableTopicRule"),
        ("aws/iot.rs", "\"/disable\"", "iot:DisableTopicRule"),
        ("message.rs", "client.publish()", "iot:Publish"),
    ];

    /// Services whose calls are signed by hand and named in quotes.
    const NAMED: [(&str, &str); 2] = [("aws/ec2.rs", "ec2"), ("aws/elasticache.rs", "elasticache")];

    /// Files that sign calls by hand, and how often: another file or path must be added above.
    const SIGNED: [(&str, usize); 3] = [
        ("aws/ec2.rs", 3),
        ("aws/elasticache.rs", 1),
        ("aws/iot.rs", 3),
    ];

    /// The source without comments, tests and white space, by path.
    fn source() -> Vec<(String, String)> {
        fn read(folder: &Path, root: &Path, files: &mut Vec<(String, String)>) {
            for entry in fs::read_dir(folder).expect("the source can be read") {
                let path = entry.expect("the source can be read").path();
                if path.is_dir() {
                    read(&path, root, files);
                    continue;
                }
                let text = fs::read_to_string(&path).expect("the source can be read");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let code: String = code
                    .lines()
                    .map(|line| line.split("//").next().unwrap_or_default())
                    .flat_map(str::chars)
                    .filter(|letter| !letter.is_whitespace())
                    .collect();
                let name = path.strip_prefix(root).expect("is below").to_string_lossy();
                files.push((name.into_owned(), code));
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        read(&root, &root, &mut files);
        files
    }

    /// `describe_stacks` → `DescribeStacks`
    fn pascal(name: &str) -> String {
        let words = name.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        words.collect()
    }

    /// The actions of all calls by the SDK's clients.
    fn called(code: &str) -> BTreeSet<String> {
        let mut actions = BTreeSet::new();
        for (client, service) in CLIENTS {
            let marker = format!("{client}.");
            for (at, _) in code.match_indices(&marker) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                    continue;
                }
                let rest = &code[at + marker.len()..];
                let name: String = rest
                    .chars()
                    .take_while(|letter| {
                        letter.is_ascii_lowercase() || matches!(letter, '_' | '0'..='9')
                    })
                    .collect();
                // A call of the service has two words; `clone()` and `iter()` have one.
                if !name.contains('_') || !rest[name.len()..].starts_with('(') {
                    continue;
                }
                match S3.iter().find(|(call, _)| service == "s3" && *call == name) {
                    Some((_, named)) => actions.extend(named.iter().map(|it| (*it).to_owned())),
                    None => {
                        actions.insert(format!("{service}:{}", pascal(&name)));
                    }
                }
            }
        }
        actions
    }

    /// The actions that a service's file names in quotes.
    fn quoted<'a>(code: &'a str, service: &'a str) -> impl Iterator<Item = String> + 'a {
        code.split('"')
            .skip(1)
            .step_by(2)
            .map(move |name| format!("{service}:{name}"))
            .filter(|action| cfn::actions::exists(action))
    }

    #[test]
    fn the_deployers_policy_has_every_call_of_this_program_and_no_other() {
        let mut actions = BTreeSet::new();
        for (file, code) in source() {
            actions.extend(called(&code));
            let signed = code.matches(".call(").count();
            let known = SIGNED.iter().find(|(name, _)| *name == file);
            if file != "aws/signed.rs" {
                assert_eq!(
                    signed,
                    known.map_or(0, |(_, count)| *count),
                    "{file}: a call that is signed by hand must be in this test and in the policy"
                );
            }
            for (_, marker, action) in PATHS.iter().filter(|(name, ..)| *name == file) {
                assert!(code.contains(marker), "{file} no longer has {marker}");
                actions.insert((*action).to_owned());
            }
            if let Some((_, service)) = NAMED.iter().find(|(name, _)| *name == file) {
                actions.extend(quoted(&code, service));
            }
        }
        let policy: BTreeSet<String> = stack::bootstrap::deployer::calls()
            .map(|(action, _)| action.to_owned())
            .collect();
        let missing: Vec<_> = actions.difference(&policy).collect();
        let unused: Vec<_> = policy.difference(&actions).collect();
        assert!(
            missing.is_empty() && unused.is_empty(),
            "called but not in stack/src/bootstrap/deployer.rs: {missing:?}; there but not called: {unused:?}"
        );
    }

    #[test]
    fn the_source_is_searched_for_calls() {
        let code = "letanswer=cloud.cfn.describe_stacks().send();self.s3.head_object();cfn.clone()";
        let expected = ["cloudformation:DescribeStacks", "s3:GetObject"];
        assert_eq!(called(code), BTreeSet::from(expected.map(str::to_owned)));
    }

    #[test]
    fn every_stage_gets_policies_that_iam_takes() {
        for stage in Stage::ALL {
            let permissions = Permissions::of(&[stage]);
            for rules in [permissions.deployer(), permissions.unbound()] {
                for policy in documents(&rules, &names(None, None)) {
                    assert!(policy.to_string().len() <= LONGEST, "{policy}");
                }
            }
        }
    }
}
