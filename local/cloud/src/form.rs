//! The body of a request in the query protocol: `Action=…&Parameters.member.1.ParameterKey=…`.

use std::collections::BTreeMap;

/// Decoded fields by their dotted names; of equal names the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`; what is no UTF-8 is replaced.
    pub fn parse(body: &[u8]) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field; `None` when it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// A field, also when it is empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that says `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|it| it.eq_ignore_ascii_case("true"))
    }

    /// The texts of a list, in order: `Name.member.1`, or `Name.1` as EC2 has it.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let mut texts: Vec<(u32, &str)> = self
            .below(name)
            .filter_map(|(rest, value)| Some((rest.parse().ok()?, value)))
            .collect();
        texts.sort_unstable();
        texts.into_iter().map(|(_, text)| text).collect()
    }

    /// The structures of a list, in order.
    pub fn structures(&self, name: &str) -> Vec<Form> {
        let mut structures: BTreeMap<u32, Form> = BTreeMap::new();
        for (rest, value) in self.below(name) {
            if let Some((index, field)) = rest.split_once('.')
                && let Ok(index) = index.parse()
            {
                let form = structures.entry(index).or_default();
                form.0.insert(field.to_owned(), value.to_owned());
            }
        }
        structures.into_values().collect()
    }

    fn below<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, 'n> {
        self.0.iter().filter_map(move |(key, value)| {
            let rest = key.strip_prefix(name)?.strip_prefix('.')?;
            Some((rest.strip_prefix("member.").unwrap_or(rest), value.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_beyond_nine() {
        let body: String = (1..=11).map(|it| format!("A.member.{it}=v{it}&")).collect();
        let form = Form::parse(body.as_bytes());
        assert_eq!(form.texts("A")[9..], ["v10", "v11"]);
    }

    #[test]
    fn structures_and_escapes_are_read() {
        let form = Form::parse(b"P.member.1.Key=a%3Db&P.member.1.Value=c+d&P.member.2.Key=e&X=");
        let members = form.structures("P");
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].get("Key"), Some("a=b"));
        assert_eq!(members[0].get("Value"), Some("c d"));
        assert_eq!((form.get("X"), form.raw("X")), (None, Some("")));
    }
}
