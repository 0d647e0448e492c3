//! Thumbprints of certificates (RFC 8705 §3.1).

use std::borrow::Cow;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The SHA-256 thumbprint of a certificate in DER: the `x5t#S256` of tokens that are bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of a certificate in DER.
    pub fn of_der(der: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Thumbprint(thumbprint)
    }

    /// The thumbprint of the first certificate in PEM. The PEM may be percent-encoded (nginx's
    /// `$ssl_client_escaped_cert`), and its lines may begin with white space (`$ssl_client_cert`). `None` when there is
    /// no certificate.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        let pem = if pem.contains(&b'%') {
            // PEM has no percent sign, so the text is escaped as a whole or not at all.
            Cow::Owned(unescaped(pem)?)
        } else if pem.contains(&b'\t') {
            Cow::Owned(pem.iter().copied().filter(|&byte| byte != b'\t').collect())
        } else {
            Cow::Borrowed(pem)
        };
        let certificate = CertificateDer::from_pem_slice(&pem).ok()?;
        Some(Self::of_der(&certificate))
    }

    /// Parses a thumbprint in a token: base64url without padding.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Thumbprint)
    }
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(if byte == b'%' {
            super::uri::escaped(rest.next(), rest.next())?
        } else {
            byte
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> (Vec<u8>, String) {
        let made = rcgen::generate_simple_self_signed(["client.example.com".to_owned()]).unwrap();
        (made.cert.der().to_vec(), made.cert.pem())
    }

    /// Escapes PEM as nginx does for `$ssl_client_escaped_cert`.
    fn escaped(pem: &str) -> String {
        let escape = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        pem.bytes().map(escape).collect()
    }

    #[test]
    fn the_same_certificate_has_the_same_thumbprint_in_whichever_form_it_comes() {
        let (der, pem) = certificate();
        let truth = Thumbprint::of_der(&der);
        let (_, another) = certificate();
        for text in [
            pem.clone(),
            escaped(&pem),
            escaped(&pem).replace("%2B", "%2b"),
            pem.trim_end().to_owned(),
            pem.replace("\r\n", "\n").trim_end().replace('\n', "\n\t"),
            pem.replace("\r\n", "\n").replace('\n', "\r\n"),
            // Followed by its issuers' certificates.
            format!("{pem}{another}"),
        ] {
            assert_eq!(Thumbprint::of_pem(text.as_bytes()), Some(truth), "{text}");
        }
        assert_ne!(Thumbprint::of_pem(another.as_bytes()), Some(truth));
        assert_eq!(
            Thumbprint::parse(&URL_SAFE_NO_PAD.encode(truth.0)),
            Some(truth)
        );
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let (_, pem) = certificate();
        for text in [
            "",
            "-",
            "%",
            "%2",
            "%zz",
            "no certificate",
            &pem.replace("CERTIFICATE", "PUBLIC KEY"),
            &pem[..pem.len() / 2],
            &format!("{}%", escaped(&pem)),
        ] {
            assert_eq!(Thumbprint::of_pem(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_thumbprint_is_none() {
        // From RFC 8705 §3.1, except for the last character: the one there does not encode 32 bytes.
        let good = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0";
        assert!(Thumbprint::parse(good).is_some());
        for bad in [
            "",
            &good[1..],
            &format!("{good}="),
            &format!("{good}A"),
            &good.replace('_', "/"),
            // The last character has two unused bits, which must be zero.
            &good.replace("dg0", "dg2"),
        ] {
            assert_eq!(Thumbprint::parse(bad), None, "{bad}");
        }
    }
}
