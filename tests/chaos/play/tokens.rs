//! The tokens that are in use, by number.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
};

use super::model::Token;

/// How many tokens are used, of which the oldest gives way to a new one.
const IN_USE: usize = 16;

#[derive(Default)]
pub(crate) struct Tokens {
    first: usize,
    tokens: VecDeque<Token>,
}

impl Tokens {
    /// The numbers of those that are used.
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

    /// The token and those that it has become by this layer.
    pub(crate) fn line(&self, number: usize, layer: usize) -> Vec<usize> {
        let mut line = vec![number];
        let mut last = &self[number];
        while let Some((value, by)) = &last.successor
            && *by == layer
            && let Some(place) = self.tokens.iter().position(|token| token.value == *value)
        {
            line.push(self.first + place);
            last = &self.tokens[place];
        }
        line
    }

    /// Takes those away that are not used any more.
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
