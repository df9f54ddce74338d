"""The page and the little API behind it: Starlette and uvicorn (pip install 'mlvl_fairseq[search]')."""
