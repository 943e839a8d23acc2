//! Sessions of roles: the credentials that a run makes up for its programs, and who they belong to.
//!
//! On AWS the Security Token Service makes them when a service assumes a role for a program; the service
//! hands them on, Lambda by environment variables, EC2 by its metadata service.
//!
//! # Differs from AWS
//! - They are good for the whole run, and nothing here but the cache asks for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sign_in::Credentials;
use uuid::Uuid;

use crate::permission::Authorizer;

/// Who has which credentials; nobody else's are known here.
#[derive(Debug, Default)]
pub struct Sessions {
    by_access_key: Mutex<HashMap<String, Session>>,
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// What its holder signs with.
    pub credentials: Credentials,
    /// What its role may do.
    pub authorizer: Authorizer,
}

impl Sessions {
    /// Makes credentials up for somebody who may do what the authorizer says.
    pub fn open(&self, authorizer: Authorizer) -> Credentials {
        let random = || Uuid::new_v4().simple().to_string();
        let credentials = Credentials::new(
            format!("ASIA{}", &random()[..16].to_uppercase()),
            format!("local+{}", random()),
            Some(format!("local/{}{}==", random(), random())),
        );
        let session = Session {
            credentials: credentials.clone(),
            authorizer,
        };
        let mut sessions = self.sessions();
        sessions.insert(credentials.access_key_id.clone(), session);
        credentials
    }

    /// The session of an access key.
    pub fn find(&self, access_key_id: &str) -> Option<Session> {
        self.sessions().get(access_key_id).cloned()
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.by_access_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
