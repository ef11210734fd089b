"""The only code that knows PyFlink: a source, a sink and one shell for keyed logic. Nothing of the domain is here."""
