//! The page's files, embedded in the binary, compressed once, and validated by content hash.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use ring::digest::{SHA256, digest};

/// Path, media type and contents of every file.
pub(crate) const FILES: &[(&str, &str, &str)] = &[
    (
        contract::http::PAGE,
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    ),
    (
        "/app.css",
        "text/css; charset=utf-8",
        include_str!("../page/app.css"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/app.js"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("../page/icon.svg"),
    ),
];

/// A file with its compressed form.
#[derive(Clone, Debug)]
pub(crate) struct File {
    media_type: &'static str,
    plain: Bytes,
    compressed: Bytes,
    /// Hash of the contents. The compressed form has another tag, because caches keep both.
    hash: String,
}

impl File {
    pub(crate) fn new(media_type: &'static str, contents: &'static str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder
            .write_all(contents.as_bytes())
            .and_then(|()| encoder.finish())
            .expect("writing to memory does not fail");
        let digest = digest(&SHA256, contents.as_bytes());
        Self {
            media_type,
            plain: Bytes::from_static(contents.as_bytes()),
            compressed: compressed.into(),
            hash: digest.as_ref()[..12]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }

    /// Responds to a request with these headers.
    pub(crate) fn respond(&self, headers: &HeaderMap) -> Response {
        let is_compressed = accepts_gzip(headers);
        let (body, suffix) = if is_compressed {
            (&self.compressed, "-gzip")
        } else {
            (&self.plain, "")
        };
        let tag = format!("\"{}{suffix}\"", self.hash);
        let mut response = if has_tag(headers, &self.hash) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(body.clone()));
            let headers = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static(self.media_type),
            );
            if is_compressed {
                headers.insert(
                    header::CONTENT_ENCODING,
                    header::HeaderValue::from_static("gzip"),
                );
            }
            response
        };
        let headers = response.headers_mut();
        // Cached and revalidated each time: the files belong together, and a deployment changes all.
        headers.insert(
            header::CACHE_CONTROL,
            header::HeaderValue::from_static("no-cache"),
        );
        headers.insert(
            header::VARY,
            header::HeaderValue::from_static("accept-encoding"),
        );
        if let Ok(tag) = tag.parse() {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING);
    let mut codings = values
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let is_refused = parts
            .filter_map(|parameter| parameter.strip_prefix("q="))
            .any(|quality| quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0));
        is_gzip && !is_refused
    })
}

/// Whether a tag of either form is present, or a weak one of a proxy: the contents are the same.
fn has_tag(headers: &HeaderMap, hash: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH);
    let mut tags = values
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        tag == "*" || tag.strip_suffix("-gzip").unwrap_or(tag) == hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_if_it_is_accepted() {
        for (accepted, expected) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("", false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for (path, _, contents) in FILES {
            let contents = contents.replace("http://www.w3.org/2000/svg", "");
            for text in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
            ] {
                assert!(!contents.contains(text), "{text} in {path}");
            }
        }
    }
}
