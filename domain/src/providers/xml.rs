//! Texts out of an XML document by their paths, without a tree, entities of its own or any reading from elsewhere.

use std::collections::BTreeMap;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::Misunderstood;

/// A path longer than any that is looked for.
const PATH_BYTES_MAX: usize = 1024;

/// The first text at each path (`notification/subject/dispute/id`) that is looked for; empty ones are left out.
pub struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Reads a document in one pass; `wanted` should hold for few paths.
    pub fn read(xml: &str, wanted: impl Fn(&str) -> bool) -> Result<Self, Misunderstood> {
        let mut reader = Reader::from_str(xml);
        let (mut path, mut text, mut texts) = (String::new(), String::new(), BTreeMap::new());
        let mut is_wanted = false;
        loop {
            match reader.read_event().map_err(|_| "broken XML")? {
                Event::Start(element) => {
                    let name = element.name();
                    let name: &str = name.as_ref();
                    if name.contains('/') {
                        return Err("broken XML".into());
                    }
                    if path.len() + name.len() > PATH_BYTES_MAX {
                        return Err("XML nested too deeply".into());
                    }
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(name);
                    is_wanted = wanted(&path) && !texts.contains_key(&path);
                    text.clear();
                }
                Event::End(_) => {
                    if is_wanted && !text.trim().is_empty() {
                        texts.insert(path.clone(), text.trim().to_owned());
                    }
                    path.truncate(path.rfind('/').unwrap_or(0));
                    is_wanted = false;
                }
                Event::Text(part) if is_wanted => text.push_str(&part),
                Event::CData(part) if is_wanted => text.push_str(&part),
                Event::GeneralRef(entity) if is_wanted => match entity.resolve_char_ref() {
                    Ok(Some(character)) => text.push(character),
                    _ => text.push_str(resolve_predefined_entity(&entity).ok_or("unknown XML entity")?),
                },
                Event::DocType(_) => return Err("XML with a document type".into()),
                Event::Eof if path.is_empty() => return Ok(Self(texts)),
                Event::Eof => return Err("broken XML".into()),
                _ => {}
            }
        }
    }

    /// The text at a path.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Texts;
    use proptest::prelude::*;

    #[test]
    fn texts_are_found_by_path() {
        let xml = "<?xml version='1.0'?><a>\n <b nil='true'/><c> x &amp; &#121; </c><c>2</c><d><c><![CDATA[<z>]]></c></d></a>";
        let texts = Texts::read(xml, |_| true).unwrap();
        assert_eq!(texts.get("a/c"), Some("x & y"));
        assert_eq!(texts.get("a/d/c"), Some("<z>"));
        assert_eq!(texts.get("a/b"), None);
    }

    #[test]
    fn documents_that_hide_something_are_refused() {
        for xml in [
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            "<a>&b;</a>",
            "<a><b></a></b>",
            "<a>",
            "</a>",
            "<a/b>c</a/b>",
        ] {
            assert!(Texts::read(xml, |_| true).is_err(), "{xml}");
        }
        let deep = "<abc>".repeat(100_000);
        assert!(Texts::read(&deep, |_| true).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(xml in "[<>/&;!\\[\\]#x0-9a-c='\" ]{0,80}") {
            let _ = Texts::read(&xml, |_| true);
        }
    }
}
