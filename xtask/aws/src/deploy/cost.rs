//! What a deployment changes in the monthly cost, as one line of the plan.

use ::cost::{Load, PriceList, estimate};

/// The monthly cost of the main stack without messages, and its difference to what is deployed.
///
/// A plan does not fail for a cost that is not known: the line says why it is not.
pub(super) fn line(after: &str, before: Option<&str>, region: &str) -> String {
    let priced = PriceList::committed().stand_in(region);
    let fixed = |template: &str| {
        estimate(&[template], priced, Load::default())
            .map(|estimate| (estimate.fixed(), estimate.is_estimate()))
    };
    let (now, is_estimate) = match fixed(after) {
        Ok(now) => now,
        Err(error) => return format!("cost: not known: {error}"),
    };
    let about = if is_estimate { "≈" } else { "" };
    let difference = match before.map(fixed) {
        Some(Ok((before, _))) => format!(", {:+.2} to what is deployed", now - before),
        Some(Err(_)) | None => String::new(),
    };
    let prices = match priced == region {
        true => String::new(),
        false => format!(" at prices of {priced}"),
    };
    format!(
        "cost: USD {about}{now:.2} a month without messages{prices}{difference}; `cargo xtask cost` has the rest"
    )
}

#[cfg(test)]
mod tests {
    use stack::Stage;

    use super::*;

    #[test]
    fn line_has_the_sum_and_the_difference() {
        let main = |stage| {
            let [_, main] = super::super::synth(stage).unwrap();
            main.template
        };
        let (dev, prod) = (main(Stage::Dev), main(Stage::Prod));
        let region = "eu-central-1";
        let sum = |template: &str| {
            estimate(&[template], region, Load::default())
                .unwrap()
                .fixed()
        };
        let new = line(&prod, None, region);
        assert!(
            new.contains(&format!("USD ≈{:.2} a month", sum(&prod))),
            "{new}"
        );
        assert!(!new.contains("deployed"), "{new}");
        let changed = line(&prod, Some(&dev), region);
        let difference = format!("+{:.2} to what is deployed", sum(&prod) - sum(&dev));
        assert!(changed.contains(&difference), "{changed}");
        let same = line(&dev, Some(&dev), region);
        assert!(same.contains(", +0.00 to what is deployed"), "{same}");
        let elsewhere = line(&dev, None, "eu-west-1");
        assert!(
            elsewhere.contains("at prices of eu-central-1"),
            "{elsewhere}"
        );
        let unreadable = line("{", None, region);
        assert!(
            unreadable.contains("not known: cannot read the template"),
            "{unreadable}"
        );
    }
}
