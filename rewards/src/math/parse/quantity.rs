//! A value and the words that go with it: currencies, units, phrases.
//!
//! Before: [`super`] is at the beginning of a side. After: the value, with its unit if there is one.

use super::Parser;
use crate::math::lex::Token;
use crate::math::node::Node;
use crate::math::unit;

impl Parser<'_> {
    /// A sum, and the unit behind it.
    pub(super) fn quantity(&mut self) -> Option<Node> {
        let currency = match self.peek() {
            Some(Token::Currency(name)) => {
                self.at += 1;
                Some(*name)
            }
            _ => None,
        };
        // words before a number, such as "about", say nothing
        if self.word_is(&["about", "approximately", "roughly", "exactly", "only", "is", "answer"]) {
            self.at += 1;
        }
        if let Some(Token::Word(_)) = self.peek() {
            return self.phrase();
        }
        let mut value = self.sum()?;
        while let Some(Token::Word(word)) = self.peek() {
            value = match unit::scaled(word) {
                Some(unit::Scaled::Times(factor)) => Node::Mul(vec![value, Node::integer(factor)]),
                Some(unit::Scaled::Power(power)) => {
                    Node::Pow(Box::new(value), Box::new(Node::integer(power)))
                }
                None => break,
            };
            self.at += 1;
        }
        if matches!(self.peek(), Some(Token::Currency(_))) && currency.is_none() {
            let Some(Token::Currency(name)) = self.peek() else { return None };
            self.at += 1;
            return Some(Node::Quantity(Box::new(value), (*name).into()));
        }
        let unit = self.unit();
        if unit.as_deref() == Some("\0") {
            return None;
        }
        let words = match (currency, unit) {
            (Some(name), None) => Some(name.to_owned()),
            (Some(name), Some(unit)) if unit::is_currency(&unit) || unit.starts_with(name) => Some(unit),
            (Some(name), Some(unit)) => Some(format!("{name} {unit}")),
            (None, unit) => unit,
        };
        Some(match words {
            Some(words) => Node::Quantity(Box::new(value), words),
            None => value,
        })
    }

    /// Words alone, up to a comma or a relation.
    fn phrase(&mut self) -> Option<Node> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.peek() {
            if !words.is_empty() && self.word_is(&["and", "or"]) {
                break;
            }
            words.push(word.as_str());
            self.at += 1;
        }
        match self.peek() {
            None
            | Some(
                Token::Relation(_) | Token::Sign(',' | ';' | ')' | ']' | '}' | '&' | ':') | Token::SetClose,
            )
            | Some(Token::Row | Token::End | Token::Word(_)) => Some(Node::Text(words.join(" "))),
            _ => None,
        }
    }

    /// The words behind a quantity, with their powers and quotients.
    fn unit(&mut self) -> Option<String> {
        let start = self.at;
        let mut text = String::new();
        loop {
            match self.peek() {
                Some(Token::Word(_)) if self.word_is(&["and", "or", "to"]) => break,
                // 5 is wrong, 5 plus: no units
                Some(Token::Word(word)) if unit::says_otherwise(word) => return Some(String::from("\0")),
                Some(Token::Word(word)) => {
                    if !text.is_empty() && !text.ends_with('/') {
                        text.push(' ');
                    }
                    text.push_str(word);
                    self.at += 1;
                }
                Some(Token::Sign('^')) if !text.is_empty() => {
                    self.at += 1;
                    let braced = self.eat('{');
                    let minus = self.eat('-');
                    let Some(Token::Number(power, true)) = self.peek() else { break };
                    text.push('^');
                    if minus {
                        text.push('-');
                    }
                    text.push_str(&power.to_string());
                    self.at += 1;
                    if braced && !self.eat('}') {
                        break;
                    }
                }
                Some(Token::Sign('/' | '*')) if !text.is_empty() => {
                    let product = self.is('*');
                    if !matches!(self.after(1), Some(Token::Word(_) | Token::Variable(_))) {
                        break;
                    }
                    self.at += 1;
                    if !product {
                        text.push('/');
                    }
                    if let Some(Token::Variable(name)) = self.peek() {
                        text.push_str(name);
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
        if text.is_empty() {
            self.at = start;
            return None;
        }
        Some(text)
    }
}
