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
        let Some(mut words) = words else { return Some(value) };
        // 3 hours 30 minutes, 5 feet and 6 inches
        while let Some((more, smaller)) = self.attempt(|parser| parser.smaller_part(&words)) {
            let factor = unit::factor(&words, &smaller)?;
            let more = Node::Mul(vec![more, Node::Number(factor)]);
            value = Node::Add(vec![value, more]);
            words = words.trim().to_owned();
        }
        Some(Node::Quantity(Box::new(value), words))
    }

    /// "and 30 minutes" behind hours: a number and its unit.
    fn smaller_part(&mut self, larger: &str) -> Option<(Node, String)> {
        let _ = self.eat(',');
        let _ = self.eat_word("and");
        let Some(Token::Number(value, _)) = self.peek() else { return None };
        self.at += 1;
        let unit = self.unit().filter(|unit| unit::is_known(unit) && unit::is_known(larger))?;
        if unit::is_coin(larger) && unit::is_coin(&unit) {
            return None; // 2 dimes and 5 nickels are two numbers
        }
        let factor = unit::factor(larger, &unit)?;
        (factor < num_traits::One::one()).then(|| (Node::Number(value.clone()), unit))
    }

    /// Behind a degree sign: minutes and seconds, or the scale of a temperature.
    pub(super) fn after_degree(&mut self, node: Node) -> Option<Node> {
        let scale = match self.peek() {
            Some(Token::Variable(name)) if name == "C" => "celsius",
            Some(Token::Variable(name)) if name == "F" => "fahrenheit",
            _ => "",
        };
        if !scale.is_empty() {
            self.at += 1;
            return Some(Node::Quantity(Box::new(node), scale.into()));
        }
        let mut terms = vec![node];
        for (marks, part) in [(1, 60), (2, 3600)] {
            let minutes = self.attempt(|parser| {
                let Some(Token::Number(value, _)) = parser.peek() else { return None };
                parser.at += 1;
                let count = parser.marks();
                (count == marks)
                    .then(|| Node::Number(value / num_rational::BigRational::from_integer(part.into())))
            });
            terms.extend(minutes);
        }
        Some(Node::Degree(Box::new(if terms.len() == 1 { terms.pop()? } else { Node::Add(terms) })))
    }

    /// How many `'` follow; as a power or not.
    fn marks(&mut self) -> usize {
        if let Some(count) = self.attempt(|parser| if parser.eat('^') { parser.primes() } else { None }) {
            return count;
        }
        let mut count = 0;
        while count < 2 && self.eat('\'') {
            count += 1;
        }
        if count == 0 && self.peek() == Some(&Token::Unknown("\"".into())) {
            self.at += 1;
            count = 2;
        }
        count
    }

    /// `5'6''`: feet and inches.
    pub(super) fn feet(&mut self, node: Node) -> Option<Node> {
        if self.marks() != 1 {
            return Some(Node::Quantity(Box::new(node), "inch".into()));
        }
        let inches = self.attempt(|parser| {
            let Some(Token::Number(value, _)) = parser.peek() else { return None };
            parser.at += 1;
            (parser.marks() == 2)
                .then(|| Node::Number(value / num_rational::BigRational::from_integer(12.into())))
        });
        let feet = match inches {
            Some(inches) => Node::Add(vec![node, inches]),
            None => node,
        };
        Some(Node::Quantity(Box::new(feet), "feet".into()))
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
                // $20/hour
                Some(Token::Sign('/'))
                    if text.is_empty()
                        && matches!(self.after(1), Some(Token::Word(word)) if unit::is_known(word)) =>
                {
                    self.at += 1;
                    text.push('/');
                }
                Some(Token::Sign('/' | '*')) if !text.is_empty() => {
                    let product = self.is('*');
                    if !matches!(self.after(1), Some(Token::Word(_) | Token::Variable(_))) {
                        break;
                    }
                    self.at += 1;
                    text.push(if product { ' ' } else { '/' });
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
