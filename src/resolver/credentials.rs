//! Credentials of calls, and their rotation.
//!
//! Secrets rotate. When the authorization server refuses our credentials, the file that our secret came from is read
//! again. If the file holds another secret, the call is repeated once. An nginx worker often may not read a file that
//! its master read as root: it then continues with the secret that it has, and logs that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::access_token::{AccessToken, Held};
use super::client::Shared;
use super::transport::Transport;
use crate::oauth::ClientAuth;
use crate::oauth::Request;
use crate::oauth::Server;
use crate::{Error, LogLevel, clock};

/// The time for which a call waits for a file to be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The credentials of one call.
pub(super) struct CallCredentials {
    /// The number of the credentials.
    number: u64,
    token: Option<Arc<Held>>,
}

/// The source of [`CallCredentials`].
pub(super) struct CredentialSource {
    shared: Arc<Shared>,
    files: Arc<Files>,
    token: Arc<AccessToken>,
}

impl CredentialSource {
    pub(super) fn new(shared: Arc<Shared>, transport: Arc<Transport>) -> Self {
        let files = Arc::new(Files {
            shared: Arc::clone(&shared),
            reading: Arc::default(),
        });
        let token = AccessToken::new(Arc::clone(&shared), transport, Arc::clone(&files));
        CredentialSource {
            shared,
            files,
            token: Arc::new(token),
        }
    }

    /// Issues credentials for calls to `server`. Waits for an access token, where an access token authenticates us.
    ///
    /// # Errors
    /// When no access token can be obtained.
    pub(super) async fn issue(&self, server: &Arc<Server>) -> Result<CallCredentials, Error> {
        let credentials = &self.shared.provider.credentials;
        let number = credentials.number();
        let token = match self.shared.provider.client_auth(server) {
            ClientAuth::ClientCredentials => Some(self.token.get(server).await?),
            _ => None,
        };
        Ok(CallCredentials { number, token })
    }

    /// Issues other credentials after the server has refused some; `None` when there are none that may be accepted.
    ///
    /// # Errors
    /// When no access token can be obtained.
    pub(super) async fn renew(
        &self,
        server: &Arc<Server>,
        refused: &CallCredentials,
    ) -> Result<Option<CallCredentials>, Error> {
        let renewed = match &refused.token {
            Some(token) => self.token.refused(token, clock::now().monotonic),
            None => self.files.renewed(refused.number).await,
        };
        if renewed {
            self.issue(server).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Adds the credentials to a request, as far as they are not in it yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] when no header can hold them.
    pub(super) fn show(&self, pass: &CallCredentials, request: &mut Request) -> Result<(), Error> {
        match &pass.token {
            Some(held) => {
                let method = request.client_auth;
                let credentials = &self.shared.provider.credentials;
                credentials.bear(method, &held.token, request)
            }
            None => Ok(()),
        }
    }
}

/// The file of the credential.
pub(super) struct Files {
    shared: Arc<Shared>,
    /// Held by the thread that reads the file again.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Files {
    /// Reports that the server has refused the credentials of number `refused`. Returns whether there are other
    /// credentials now.
    pub(super) async fn renewed(&self, refused: u64) -> bool {
        let provider = &self.shared.provider;
        let credentials = &provider.credentials;
        let Some(file) = &provider.credential_file else {
            return false;
        };
        let Ok(reading) = timeout(PATIENCE, Arc::clone(&self.reading).lock_owned()).await else {
            return false;
        };
        if credentials.number() != refused {
            return true;
        }
        let now = clock::now().monotonic;
        if !provider.may_read_credential_again(now) {
            return false;
        }
        let reader = Arc::clone(provider);
        // On a thread of its own, and only on one at a time: a file system that hangs must not delay other calls, nor
        // use up the threads that resolve names.
        let read = tokio::task::spawn_blocking(move || {
            let read = reader.read_credential_again(now);
            drop(reading);
            read
        });
        let name = &provider.name;
        let reporter = &self.shared.reporter;
        let Ok(read) = timeout(PATIENCE, read).await else {
            return false;
        };
        match read {
            Ok(Ok(true)) => {
                reporter.say(
                    LogLevel::Info,
                    &format!(
                        "provider {name:?}: the authorization server refused our client authentication; {file} has \
                         changed, and what it holds now is used"
                    ),
                );
                true
            }
            Ok(Ok(false)) => false,
            Ok(Err(why)) => {
                reporter.say(
                    LogLevel::Warn,
                    &format!(
                        "provider {name:?}: the authorization server refuses our client authentication, and {file} \
                         {why}; what was read before goes on being used: if the secret has changed, reload, or let \
                         this process read the file"
                    ),
                );
                false
            }
            // The thread panicked, or the runtime is shutting down.
            Err(_) => false,
        }
    }
}
