//! A monthly budget of the stage, which mails before it is spent.
//!
//! AWS Budgets counts what carries the stage's tag, once that tag is activated as a cost allocation tag in
//! the account's billing console: "Activating user-defined cost allocation tags" of the AWS Billing user
//! guide. Until then the budget counts nothing.

use cfn::resources::budgets::{self, budget};
use cfn::{ResourceAttributes, Template, Value};
use serde_json::json;

use crate::STAGE_TAG;
use crate::config::Budget;
use crate::parameters::Parameters;

/// Percent of the amount at which a mail is sent.
const PERCENT: f64 = 100.0;

/// What the budget needs.
pub struct Props<'a> {
    /// The amount.
    pub config: &'a Budget,
    /// Value of the stage's tag.
    pub stage: String,
    /// Address that is mailed to; without one there is no budget.
    pub parameters: &'a Parameters,
}

/// Defines the budget. It exists only where an alarm address is given: a budget that tells nobody does nothing.
pub fn define(template: &mut Template, props: &Props<'_>) {
    let amount = budget::Spend::new(f64::from(props.config.monthly_usd), Value::from("USD"));
    // "user:" marks a tag that is not AWS's own, "$" divides key and value.
    let filter = json!({ "TagKeyValue": [format!("user:{STAGE_TAG}${}", props.stage)] });
    let data = budget::BudgetData {
        budget_limit: Some(amount.into()),
        cost_filters: Some(filter.into()),
        ..budget::BudgetData::new(Value::from("COST"), Value::from("MONTHLY"))
    };
    // What is spent, and early enough to act: what AWS expects for the whole month.
    let notifications = ["ACTUAL", "FORECASTED"].map(|kind| {
        let notification = budget::Notification {
            threshold_type: Some("PERCENTAGE".into()),
            ..budget::Notification::new(Value::from("GREATER_THAN"), Value::from(kind), PERCENT)
        };
        let address = props.parameters.alarm_email.reference();
        budget::NotificationWithSubscribers::new(
            notification,
            [budget::Subscriber::new(address, Value::from("EMAIL"))],
        )
    });
    template.define_with(
        "Budget",
        budgets::Budget {
            notifications_with_subscribers: Some(notifications.into()),
            ..budgets::Budget::new(data)
        },
        ResourceAttributes {
            condition: Some(props.parameters.has_alarm_email),
            ..ResourceAttributes::default()
        },
    );
}
