"""The router: hears of studies, decides who reads them, keeps the ledger, delivers what comes of it.

Its rooms lie on floors; an upper one may import a lower one (import-linter holds it):

    cli                                             the commands
    console   daemon                                what people look at; what runs
    metrics   onebox   delivery   queue             what leaves: figures, processes, results, job ids
    reports   intake   tracing                      what is read from the ledger; what comes into it
    ledger                                          the truth
    orthanc   routing   hl7       waterfall         the archive; the choice of a route; the RIS's language; bars
    settings  files   log   stages                  what is configured, unpacked, written down, measured
    contract  errors   words   version  processes   what everybody knows

Next: contract.py (what flows), daemon/service.py (how it all hangs together).
"""
