//! EC2: the calls about networks that `deploy` and `destroy` make.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html>

use aws_smithy_query::QueryWriter;

use crate::aws::signed::{self, Client, Record, Request, Service};
use crate::aws::{CallFailed, Cloud};

const VERSION: &str = "2016-11-15";

/// Maximum results of a page. EC2 accepts up to 1,000.
const PAGE: &str = "1000";

/// A client of EC2.
#[derive(Clone, Debug)]
pub(crate) struct Ec2(Client);

/// A filter: matches any of the values, where `*` and `?` are wildcards.
pub(crate) type Filter<'a> = (&'a str, &'a [&'a str]);

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) id: String,
    pub(crate) description: String,
    /// `available` if nothing uses it, otherwise `in-use`, `attaching` or `detaching`.
    pub(crate) status: String,
}

impl Ec2 {
    pub(crate) fn new(cloud: &Cloud) -> anyhow::Result<Ec2> {
        let service = Service {
            id: "EC2",
            name: "ec2",
        };
        Ok(Ec2(Client::new(&cloud.config, service)?))
    }

    /// IDs of the networks that match.
    pub(crate) async fn vpcs(&self, filters: &[Filter<'_>]) -> Result<Vec<String>, CallFailed> {
        let what = "list the networks";
        let vpcs = self.describe(what, "DescribeVpcs", "vpcSet", filters, &["vpcId"]);
        Ok(vpcs.await?.into_iter().flatten().collect())
    }

    /// Elastic IP addresses that match, for example `203.0.113.1`.
    pub(crate) async fn addresses(
        &self,
        filters: &[Filter<'_>],
    ) -> Result<Vec<String>, CallFailed> {
        let what = "list the Elastic IP addresses";
        // The only one of these lists without pages.
        let body = query("DescribeAddresses", filters, None);
        let answer = self.0.call(what, post(body)).await?;
        let found = signed::records(&answer, &["addressesSet"], Some("item"), &["publicIp"]);
        Ok(found.into_iter().flatten().collect())
    }

    /// IDs of the NAT gateways that match, in any state.
    pub(crate) async fn nat_gateways(
        &self,
        filters: &[Filter<'_>],
    ) -> Result<Vec<String>, CallFailed> {
        let what = "list the NAT gateways";
        let (action, set) = ("DescribeNatGateways", "natGatewaySet");
        let found = self.describe(what, action, set, filters, &["natGatewayId"]);
        Ok(found.await?.into_iter().flatten().collect())
    }

    /// Network interfaces that match.
    pub(crate) async fn interfaces(
        &self,
        filters: &[Filter<'_>],
    ) -> Result<Vec<Interface>, CallFailed> {
        let what = "list the network interfaces";
        let fields = ["networkInterfaceId", "description", "status"];
        let (action, set) = ("DescribeNetworkInterfaces", "networkInterfaceSet");
        let found = self.describe(what, action, set, filters, &fields).await?;
        Ok(found
            .into_iter()
            .filter_map(|record| <[String; 3]>::try_from(record).ok())
            .map(|[id, description, status]| Interface {
                id,
                description,
                status,
            })
            .collect())
    }

    /// Deletes a network interface; one that does not exist is not an error.
    pub(crate) async fn delete_interface(&self, id: &str) -> Result<(), CallFailed> {
        let mut body = String::new();
        let mut writer = QueryWriter::new(&mut body, "DeleteNetworkInterface", VERSION);
        writer.prefix("NetworkInterfaceId").string(id);
        writer.finish();
        let answer = self.0.call("delete a network interface", post(body)).await;
        match answer {
            Err(error) if error.code.as_deref() == Some("InvalidNetworkInterfaceID.NotFound") => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Reads all pages of a list.
    async fn describe(
        &self,
        what: &'static str,
        action: &str,
        set: &str,
        filters: &[Filter<'_>],
        fields: &[&str],
    ) -> Result<Vec<Record>, CallFailed> {
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let body = query(action, filters, Some(next.as_deref()));
            let answer = self.0.call(what, post(body)).await?;
            found.extend(signed::records(&answer, &[set], Some("item"), fields));
            next = signed::text(&answer, &[], "nextToken");
            if next.is_none() {
                return Ok(found);
            }
        }
    }
}

/// The body of a request; `page` is `None` for a list without pages.
fn query(action: &str, filters: &[Filter<'_>], page: Option<Option<&str>>) -> String {
    let mut parameters = Vec::new();
    for (number, (name, values)) in (1..).zip(filters) {
        parameters.push((format!("Filter.{number}.Name"), *name));
        for (index, value) in (1..).zip(*values) {
            parameters.push((format!("Filter.{number}.Value.{index}"), *value));
        }
    }
    if let Some(next) = page {
        parameters.push(("MaxResults".to_owned(), PAGE));
        parameters.extend(next.map(|next| ("NextToken".to_owned(), next)));
    }
    let mut body = String::new();
    let mut writer = QueryWriter::new(&mut body, action, VERSION);
    for (name, value) in &parameters {
        writer.prefix(name).string(value);
    }
    writer.finish();
    body
}

fn post(body: String) -> Request {
    Request {
        method: "POST",
        path: "/".to_owned(),
        content_type: "application/x-www-form-urlencoded",
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_asked_in_the_query_protocol() {
        let filters: [Filter<'_>; 2] = [("description", &["AWS Lambda*"]), ("status", &["a", "b"])];
        assert_eq!(
            query("DescribeVpcs", &filters, Some(Some("n="))),
            "Action=DescribeVpcs&Version=2016-11-15&Filter.1.Name=description&Filter.1.Value.1=AWS%20Lambda%2A&Filter.2.Name=status&Filter.2.Value.1=a&Filter.2.Value.2=b&MaxResults=1000&NextToken=n%3D"
        );
        assert_eq!(
            query("DescribeAddresses", &[], None),
            "Action=DescribeAddresses&Version=2016-11-15"
        );
    }
}
