//! Rust names from CloudFormation's names.

use heck::{ToShoutySnakeCase, ToSnakeCase, ToUpperCamelCase};
use proc_macro2::Ident;
use quote::format_ident;

/// Spellings that would be split wrongly.
const WORDS: &[(&str, &str)] = &[
    ("IoT", "Iot"),
    ("KiB", "Kib"),
    ("MiBps", "Mibps"),
    ("MBs", "Mbs"),
    ("GBs", "Gbs"),
    ("AZs", "Azs"),
    ("IPs", "Ips"),
    ("ARNs", "Arns"),
    ("URIs", "Uris"),
    ("DNs", "Dns"),
    ("ACLs", "Acls"),
    ("IDs", "Ids"),
    ("OAuth", "Oauth"),
];

fn words(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in WORDS {
        name = name.replace(from, to);
    }
    name
}

/// `SizeInMBs` → `size_in_mbs`, with `r#` for Rust's keywords.
pub fn field(name: &str) -> Ident {
    identifier(&words(name).to_snake_case())
}

/// `VPC` → `Vpc`
pub fn type_name(name: &str) -> Ident {
    identifier(&camel(name))
}

/// `VPC` → `Vpc`, as text
pub fn camel(name: &str) -> String {
    words(name).to_upper_camel_case()
}

/// `ON_DEMAND` → `OnDemand`, `4XX` → `V4xx`
pub fn variant(value: &str) -> String {
    let text: String = value
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' })
        .collect();
    let name = text.to_upper_camel_case();
    match name.chars().next() {
        None => "Empty".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("V{name}"),
        Some(_) => name,
    }
}

/// `Stream` → `STREAM`
pub fn constant(name: &str) -> Ident {
    identifier(&words(name).to_shouty_snake_case())
}

/// `AWS::KinesisFirehose::DeliveryStream` → `kinesisfirehose`
pub fn service_module(type_name: &str) -> String {
    type_name
        .split("::")
        .nth(1)
        .unwrap_or_default()
        .to_lowercase()
}

/// `AWS::KinesisFirehose::DeliveryStream` → `DeliveryStream`
pub fn resource(type_name: &str) -> &str {
    type_name.rsplit("::").next().unwrap_or_default()
}

/// A module's or a field's name.
pub fn identifier(name: &str) -> Ident {
    match name {
        // These cannot be raw identifiers.
        "self" | "Self" | "super" | "crate" => format_ident!("{name}_"),
        _ => syn::parse_str::<Ident>(name).unwrap_or_else(|_| format_ident!("r#{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acronyms_and_plurals_stay_whole() {
        for (name, expected) in [
            ("SizeInMBs", "size_in_mbs"),
            ("MaxRecordSizeInKiB", "max_record_size_in_kib"),
            ("KMSEncryptionConfig", "kms_encryption_config"),
            ("BucketARN", "bucket_arn"),
            ("S3Key", "s3_key"),
            ("Type", "r#type"),
            ("AWSIoTEvents", "aws_iot_events"),
        ] {
            assert_eq!(field(name).to_string(), expected);
        }
    }

    #[test]
    fn enum_values_become_variants() {
        for (value, expected) in [
            ("ON_DEMAND", "OnDemand"),
            ("provided.al2023", "ProvidedAl2023"),
            ("aws:kms", "AwsKms"),
            ("1.2", "V12"),
            ("", "Empty"),
        ] {
            assert_eq!(variant(value), expected);
        }
    }
}
