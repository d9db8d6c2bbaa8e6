//! What the API server's refusals mean for a write.

use kube::core::response::reason;

use super::connect::one_line;
use crate::checked::ObjectRef;
use crate::store::WriteError;

/// The outcome of a write to `object` that failed.
pub(super) fn write_error(object: ObjectRef, error: kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else {
        return WriteError::Unavailable { object, reason: one_line(&error) };
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    let other_uid = causes.any(|cause| cause.field == "metadata.uid");
    let names_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    match status.code {
        409 if status.reason == reason::ALREADY_EXISTS => WriteError::AlreadyExists(object),
        409 => WriteError::Conflict(object),
        // Where the body carries a UID, another object of the same name is refused as an edit of an immutable field.
        422 if other_uid => WriteError::Conflict(object),
        404 if names_object => WriteError::NotFound(object),
        // The whole resource is missing: its CRD is not installed, or not served yet.
        404 => WriteError::Unavailable {
            object,
            reason: format!("the API server does not know the kind: {}", status.message),
        },
        400 | 403 | 422 => WriteError::Refused { object, reason: status.message },
        code => {
            WriteError::Unavailable { object, reason: format!("the API server answered {code}: {}", status.message) }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::StatusDetails;

    use super::*;

    fn api(code: u16, reason: &str, name: &str) -> kube::Error {
        with_details(code, reason, serde_json::json!({ "name": name }))
    }

    fn with_details(code: u16, reason: &str, details: serde_json::Value) -> kube::Error {
        let details: StatusDetails = serde_json::from_value(details).unwrap();
        kube::Error::Api(Box::new(Status { code, details: Some(details), ..Status::failure("words", reason) }))
    }

    #[track_caller]
    fn check(error: kube::Error, expected: &str) {
        let error = write_error(ObjectRef::cluster("AddressClaim", "203.0.113.7"), error);
        let variant = match &error {
            WriteError::AlreadyExists(_) => "AlreadyExists",
            WriteError::Conflict(_) => "Conflict",
            WriteError::NotFound(_) => "NotFound",
            WriteError::Refused { .. } => "Refused",
            WriteError::Unavailable { .. } => "Unavailable",
        };
        assert_eq!(format!("{variant}: {error}"), expected);
    }

    #[test]
    fn codes_become_outcomes() {
        check(api(409, "AlreadyExists", "203.0.113.7"), "AlreadyExists: AddressClaim 203.0.113.7 exists already");
        check(api(409, "Conflict", "203.0.113.7"), "Conflict: AddressClaim 203.0.113.7 changed since it was read");
        check(api(404, "NotFound", "203.0.113.7"), "NotFound: AddressClaim 203.0.113.7 does not exist");
        check(
            api(404, "NotFound", ""),
            "Unavailable: AddressClaim 203.0.113.7: the API server does not know the kind: words",
        );
        check(api(422, "Invalid", "203.0.113.7"), "Refused: AddressClaim 203.0.113.7: words");
        let other_uid = serde_json::json!({ "name": "any", "causes": [{ "field": "metadata.uid" }] });
        check(with_details(422, "Invalid", other_uid), "Conflict: AddressClaim 203.0.113.7 changed since it was read");
        check(api(403, "Forbidden", "203.0.113.7"), "Refused: AddressClaim 203.0.113.7: words");
        check(api(400, "BadRequest", ""), "Refused: AddressClaim 203.0.113.7: words");
        check(
            api(401, "Unauthorized", ""),
            "Unavailable: AddressClaim 203.0.113.7: the API server answered 401: words",
        );
        check(
            api(429, "TooManyRequests", ""),
            "Unavailable: AddressClaim 203.0.113.7: the API server answered 429: words",
        );
        check(api(504, "Timeout", ""), "Unavailable: AddressClaim 203.0.113.7: the API server answered 504: words");
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        check(
            kube::Error::Service(Box::new(refused)),
            "Unavailable: AddressClaim 203.0.113.7: ServiceError: connection refused",
        );
    }
}
