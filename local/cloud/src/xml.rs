//! Writes XML: elements in order, texts escaped.

/// A document in the making.
#[derive(Debug)]
pub struct Xml {
    text: String,
    root: String,
}

impl Xml {
    /// Begins a document with its root element.
    pub fn new(root: &str, namespace: Option<&str>) -> Xml {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<");
        text.push_str(root);
        if let Some(namespace) = namespace {
            text.push_str(" xmlns=\"");
            escape(&mut text, namespace);
            text.push('"');
        }
        text.push('>');
        Xml {
            text,
            root: root.to_owned(),
        }
    }

    /// Begins a part that is put into a document later.
    pub fn fragment() -> Xml {
        Xml {
            text: String::new(),
            root: String::new(),
        }
    }

    /// Adds a part.
    pub fn append(&mut self, fragment: Xml) {
        self.text.push_str(&fragment.text);
    }

    /// An element with text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Xml {
        self.open(name);
        escape(&mut self.text, value);
        self.close(name)
    }

    /// An element with text, if there is any.
    pub fn maybe(&mut self, name: &str, value: Option<&str>) -> &mut Xml {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// An element with others inside.
    pub fn within(&mut self, name: &str, inside: impl FnOnce(&mut Xml)) -> &mut Xml {
        self.open(name);
        inside(self);
        self.close(name)
    }

    /// A list: an element with one `<member>` for each item.
    pub fn members<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut inside: impl FnMut(&mut Xml, T),
    ) -> &mut Xml {
        self.within(name, |xml| {
            for item in items {
                xml.within("member", |xml| inside(xml, item));
            }
        })
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
    ) -> &mut Xml {
        self.within(name, |xml| {
            for item in items {
                xml.text("member", item.as_ref());
            }
        })
    }

    /// Ends the document.
    pub fn finish(mut self) -> String {
        let root = std::mem::take(&mut self.root);
        self.close(&root);
        self.text
    }

    fn open(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
    }

    fn close(&mut self, name: &str) -> &mut Xml {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
        self
    }
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            // Readers turn a bare one into a line feed.
            '\r' => text.push_str("&#xD;"),
            '\t' | '\n' => text.push(character),
            // No XML 1.0 document may hold these.
            control if control < ' ' => text.push('\u{fffd}'),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_elements_closed() {
        let mut xml = Xml::new("A", Some("urn:x"));
        xml.text("B", "<&>\r\u{1}").members("C", [1, 2], |xml, it| {
            xml.text("D", &it.to_string());
        });
        assert_eq!(
            xml.finish(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"urn:x\"><B>&lt;&amp;&gt;&#xD;\u{fffd}</B><C><member><D>1</D></member><member><D>2</D></member></C></A>"
        );
    }
}
