//! The development certificate authority: what `local` serves over TLS is signed by it, and programs
//! trust it by `SSL_CERT_FILE`.
//!
//! Its key and certificate are kept in the data folder, so that whoever trusts it once need not do so
//! again. The key is readable by its owner only. Certificates that it signs live in memory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Extension of certificates' file names.
pub(crate) const CERTIFICATE: &str = "pem";

/// Days that the authority's certificate is valid.
const AUTHORITY_DAYS: i64 = 3650;

/// The authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_file: PathBuf,
}

impl Authority {
    /// The authority of a folder: the one made there before, else a new one.
    ///
    /// # Errors
    /// The folder cannot be read or written, or what is in it is no certificate and key.
    pub fn open(folder: &Path) -> anyhow::Result<Authority> {
        let ca_file = folder.join("ca.pem");
        let key_file = folder.join("ca.key");
        if !(ca_file.is_file() && key_file.is_file()) {
            make(folder, &ca_file, &key_file)
                .with_context(|| format!("make a certificate authority in {}", folder.display()))?;
        }
        let unreadable = || {
            format!(
                "{} and {} are no certificate and key; remove them, and new ones are made",
                ca_file.display(),
                key_file.display()
            )
        };
        let key = fs::read_to_string(&key_file).with_context(unreadable)?;
        let key = KeyPair::from_pem(&key).with_context(unreadable)?;
        // Its certificate says nothing more than its parameters and its key.
        let issuer = Issuer::new(authority(), key);
        // Programs have working directories of their own.
        let ca_file = fs::canonicalize(&ca_file).with_context(unreadable)?;
        Ok(Authority { issuer, ca_file })
    }

    /// The authority's certificate in PEM, with its whole path.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Settings for a server that has these names; host names or addresses.
    ///
    /// # Errors
    /// A name is neither.
    pub fn server_config(&self, names: &[&str]) -> anyhow::Result<Arc<ServerConfig>> {
        self.server_config_for(names, Clients::Anybody)
    }

    /// The same, where not everybody may connect.
    ///
    /// # Errors
    /// A name is neither, or the authority's certificate cannot be read.
    pub fn server_config_for(
        &self,
        names: &[&str],
        clients: Clients,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).context("names of a certificate")?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, "local development server");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("make a key")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .context("sign a certificate")?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS versions")?;
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::WithCertificate => {
                let mut roots = RootCertStore::empty();
                let authority = CertificateDer::from_pem_file(&self.ca_file)
                    .with_context(|| format!("read {}", self.ca_file.display()))?;
                roots.add(authority).context("use the authority")?;
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().context("use the authority")?)
            }
        };
        let config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("use the certificate")?;
        Ok(Arc::new(config))
    }

    /// The certificate and key of a device in a folder: those issued before, else new ones. The
    /// certificate is valid as long as the authority's.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn device(&self, name: &str, folder: &Path) -> anyhow::Result<DeviceFiles> {
        let files = DeviceFiles {
            certificate: folder.join(format!("{name}.{CERTIFICATE}")),
            key: folder.join(format!("{name}.key")),
        };
        if files.certificate.is_file() && files.key.is_file() {
            return Ok(files);
        }
        let mut parameters = CertificateParams::default();
        limit(&mut parameters)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("make a key")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .context("sign a certificate")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
        write_key(&files.key, &key).with_context(|| format!("write {}", files.key.display()))?;
        fs::write(&files.certificate, certificate.pem())
            .with_context(|| format!("write {}", files.certificate.display()))?;
        Ok(files)
    }
}

/// Who may connect to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Everybody; whoever it is says so later.
    Anybody,
    /// Who has a certificate that the authority has signed.
    WithCertificate,
}

/// Where a device's certificate and key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, readable by its owner only.
    pub key: PathBuf,
}

/// From yesterday, for clocks that are behind, as long as the authority is valid.
fn limit(parameters: &mut CertificateParams) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let date = |days: i64| -> anyhow::Result<_> {
        let date = now.checked_add(jiff::SignedDuration::from_hours(days * 24))?;
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok(rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        ))
    };
    parameters.not_before = date(-1)?;
    parameters.not_after = date(AUTHORITY_DAYS)?;
    Ok(())
}

fn write_key(path: &Path, key: &KeyPair) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // An old one does not fit the new certificate.
    let _ = fs::remove_file(path);
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.serialize_pem().as_bytes())
}

fn authority() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "local development authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn make(folder: &Path, ca_file: &Path, key_file: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut parameters = authority();
    limit(&mut parameters)?;
    let certificate = parameters.self_signed(&key)?;

    fs::create_dir_all(folder)?;
    // Both are made anew together: an old one of the two does not fit.
    write_key(key_file, &key)?;
    fs::write(ca_file, certificate.pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_is_kept_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let certificate = fs::read(first.ca_file()).unwrap();
        let second = Authority::open(folder.path()).unwrap();
        assert_eq!(fs::read(second.ca_file()).unwrap(), certificate);
        let mode = fs::metadata(folder.path().join("ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        second.server_config(&["localhost", "127.0.0.1"]).unwrap();
    }

    #[test]
    fn broken_authority_says_what_to_remove() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "x").unwrap();
        fs::write(folder.path().join("ca.key"), "x").unwrap();
        let error = Authority::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("remove them"), "{error}");
    }
}
