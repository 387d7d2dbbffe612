/*
 * Install script of notif.  Assembled by make from the numbered modules of
 * sql/; change those, not this file.
 */

-- complain if the script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION notif" to load this file. \quit

