//! A log group where an alarm's action belongs.

use cfn::{Handle, List};
use cfn::resources::cloudwatch::Alarm;
use cfn::resources::logs::LogGroup;

fn mistake(log_group: Handle<LogGroup>) -> Alarm {
    Alarm { alarm_actions: Some(List::from([log_group.arn()])), ..Default::default() }
}

fn main() {}
