//! The tokens that are in use, by number.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
};

use super::model::Token;

/// How many tokens are in use. A new one replaces the oldest.
const IN_USE: usize = 16;

#[derive(Default)]
pub(crate) struct Tokens {
    first: usize,
    tokens: VecDeque<Token>,
}

impl Tokens {
    /// The numbers of the tokens in use.
    pub(crate) fn in_use(&self) -> std::ops::Range<usize> {
        self.end().saturating_sub(IN_USE).max(self.first)..self.end()
    }

    /// The number of the next one.
    pub(crate) fn end(&self) -> usize {
        self.first + self.tokens.len()
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        (self.first..self.end()).contains(&number)
    }

    pub(crate) fn push(&mut self, token: Token) {
        self.tokens.push_back(token);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        self.tokens.iter_mut()
    }

    /// The token and the values that this layer gave it.
    pub(crate) fn line(&self, number: usize, layer: usize) -> Vec<usize> {
        self.line_by(number, |by| by == layer)
    }

    /// The token and its later values.
    pub(crate) fn lineage(&self, number: usize) -> Vec<usize> {
        self.line_by(number, |_| true)
    }

    /// All values of a token that a layer knows to be of one, of those that are known from this one on and
    /// before it.
    pub(crate) fn relatives(&self, number: usize, layer: usize) -> Vec<usize> {
        let mut first = number;
        let by_layer = |token: &Token, value: &str| {
            token.successor.as_ref().is_some_and(|(new, by)| *by == layer && new == value)
        };
        while let Some(place) = self.tokens.iter().position(|it| by_layer(it, &self[first].value)) {
            first = self.first + place;
        }
        self.line(first, layer)
    }

    fn line_by(&self, number: usize, who: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut line = vec![number];
        let mut last = &self[number];
        while let Some((value, by)) = &last.successor
            && who(*by)
            && let Some(place) = self.tokens.iter().position(|token| token.value == *value)
        {
            line.push(self.first + place);
            last = &self.tokens[place];
        }
        line
    }

    /// Removes tokens that are not in use any more.
    pub(crate) fn out_of_use(&mut self) -> Vec<Token> {
        let old = self.in_use().start - self.first;
        self.first += old;
        self.tokens.drain(..old).collect()
    }
}

impl Index<usize> for Tokens {
    type Output = Token;

    fn index(&self, number: usize) -> &Token {
        &self.tokens[number - self.first]
    }
}

impl IndexMut<usize> for Tokens {
    fn index_mut(&mut self, number: usize) -> &mut Token {
        &mut self.tokens[number - self.first]
    }
}
