//! Label selectors that can be asked.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::kinds::{LabelOperator, LabelSelector};

/// A label selector; the empty one takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Expression>);

/// One requirement of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// The label has one of the values.
    In(String, BTreeSet<String>),
    /// The label is absent or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The label is there.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Selector {
    /// Whether an object with these labels is taken.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|expression| match expression {
            Expression::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Expression::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Expression::Exists(key) => labels.contains_key(key),
            Expression::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// Checks a selector as written at `field`.
    pub(super) fn check(raw: &LabelSelector, field: &str, findings: &mut Findings) -> Self {
        let mut expressions: Vec<_> = raw
            .match_labels
            .iter()
            .map(|(key, value)| Expression::In(key.clone(), BTreeSet::from([value.0.clone()])))
            .collect();
        for (index, raw) in raw.match_expressions.iter().enumerate() {
            let values: BTreeSet<String> = raw.values.iter().map(|value| value.0.clone()).collect();
            let field = format!("{field}.matchExpressions[{index}]");
            if raw.key.is_empty() {
                findings.refuse(format!("{field}.key"), "", "must name a label");
            }
            let takes_values = matches!(raw.operator, LabelOperator::In | LabelOperator::NotIn);
            if takes_values && values.is_empty() {
                findings.refuse(format!("{field}.values"), "[]", "operators In and NotIn need values");
            }
            if !takes_values && !values.is_empty() {
                let given = format!("{values:?}");
                findings.refuse(format!("{field}.values"), given, "operators Exists and DoesNotExist take no values");
            }
            let key = raw.key.clone();
            expressions.push(match raw.operator {
                LabelOperator::In => Expression::In(key, values),
                LabelOperator::NotIn => Expression::NotIn(key, values),
                LabelOperator::Exists => Expression::Exists(key),
                LabelOperator::DoesNotExist => Expression::DoesNotExist(key),
            });
        }
        Self(expressions)
    }

    /// Checks a selector that may be absent.
    pub(super) fn check_option(raw: Option<&LabelSelector>, field: &str, findings: &mut Findings) -> Option<Self> {
        raw.map(|raw| Self::check(raw, field, findings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checked::ObjectRef;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let raw: LabelSelector = serde_json::from_str(selector).unwrap();
        let mut findings = Findings::new(ObjectRef::cluster("Test", "t"));
        let selector = Selector::check(&raw, "s", &mut findings);
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(selector.matches(&labels), expected);
    }

    #[test]
    fn matches_as_kubernetes_does() {
        check("{}", &[], true);
        check(r#"{"matchLabels":{"a":"1"}}"#, &[("a", "1")], true);
        check(r#"{"matchLabels":{"a":"1"}}"#, &[("a", "2")], false);
        check(r#"{"matchLabels":{"a":"1","b":"1"}}"#, &[("a", "1")], false);
        check(r#"{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]}"#, &[], true);
        check(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]}]}"#, &[("a", "2")], true);
        check(r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#, &[], false);
        check(r#"{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}"#, &[], true);
    }
}
