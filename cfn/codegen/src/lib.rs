//! Generates the resource types of cfn from the CloudFormation registry schemas.
